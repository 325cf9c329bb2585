package tunnel

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// device is the TUN interface, for WireGuard.
type device struct {
	tun.Device
	moved atomic.Uint64 // counts what came and went
}

// openDevice takes the interface of that name over, or makes it. It stays when the process ends.
func openDevice(name string) (*device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, errors.New("this machine has no /dev/net/tun: load the kernel's module tun")
	}
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	d, err := attach(fd, name)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	return d, nil
}

func attach(fd int, name string) (*device, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, err
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return nil, fmt.Errorf("have it stay: %w", err)
	}
	// What a device's coming and going and its MTU would tell is the agent's to see, and looking for it costs a wake-up a
	// second.
	t, _, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		return nil, err
	}
	return &device{Device: t}, nil
}

// MTU is not known here: 0 has packets filled up to 16 bytes whatever it is, and so the agent gives the device an MTU
// that is a multiple of 16.
func (d *device) MTU() (int, error) { return 0, nil }

func (d *device) Read(packets [][]byte, sizes []int, offset int) (int, error) {
	n, err := d.Device.Read(packets, sizes, offset)
	d.moved.Add(1)
	return n, err
}

func (d *device) Write(packets [][]byte, offset int) (int, error) {
	d.moved.Add(1)
	return d.Device.Write(packets, offset)
}
