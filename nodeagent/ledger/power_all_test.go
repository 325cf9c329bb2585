package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

// openAll opens three ledgers of one ring, each in a directory of its own.
func openAll(dirs []string) (nodes []*toyLedger, err error) {
	var mu sync.Mutex
	byName := map[place.NodeID]*toyLedger{}
	var trans []*raft.InmemTransport
	for _, n := range three {
		_, t := raft.NewInmemTransportWithTimeout(raft.ServerAddress(n), 500*time.Millisecond)
		for i, other := range trans {
			t.Connect(raft.ServerAddress(three[i]), other)
			other.Connect(raft.ServerAddress(n), t)
		}
		trans = append(trans, t)
	}
	for i, n := range three {
		o := crashOptions(dirs[i])
		o.Node, o.Transport = n, trans[i]
		if i > 0 {
			o.Genesis = nil
		}
		o.Forward = func(ctx context.Context, leader place.NodeID, raw [][]byte) error {
			mu.Lock()
			l := byName[leader]
			mu.Unlock()
			if l == nil {
				return errors.New("connection refused")
			}
			return l.Submit(ctx, n, raw)
		}
		l, err := Open(context.Background(), o)
		if err != nil {
			return nodes, fmt.Errorf("node %s: %w", n, err)
		}
		mu.Lock()
		byName[n] = l
		mu.Unlock()
		nodes = append(nodes, l)
	}
	return nodes, nil
}

// appendOnAll sets two names on each of three nodes to rising numbers, once all of them vote, and says what was acknowledged.
func appendOnAll(dirs []string) {
	nodes, err := openAll(dirs)
	if err != nil {
		fmt.Println("open:", err)
		return
	}
	ctx := context.Background()
	for deadline := time.Now().Add(time.Minute); members(nodes[0]) != "n1* n2* n3*" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, n := range three[1:] {
			_ = nodes[0].AddMember(ctx, n) // who does not lead cannot, and need not
		}
	}
	fmt.Println("open")
	var mu sync.Mutex
	for i, l := range nodes {
		for g := range 2 {
			go func() {
				name := fmt.Sprintf("g%d", 2*i+g)
				value := l.ref(name)
				for {
					next := fmt.Sprintf("%d.%s", number(value)+1, strings.Repeat("x", 3000))
					o, err := l.Append(ctx, ref(name, value, next))
					mu.Lock()
					fmt.Printf("%s %d %q %v\n", name, number(next), o, err)
					mu.Unlock()
					value = next
				}
			}()
		}
	}
	select {}
}

// TestFault_L3 cuts the power of three machines at once, again and again, while all of them append: what was acknowledged is
// there on each when they are back.
func TestFault_L3(t *testing.T) {
	var disks []*powered
	var dirs []string
	for range three {
		d := newPowered(t)
		disks = append(disks, d)
		dirs = append(dirs, filepath.Join(d.at, "ledger"))
	}
	disks[0].check()
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	if os.Getenv("FULL") != "" {
		rounds = 20
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	acked := map[string]int{}
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "SHOAL_TEST_APPEND_ON="+strings.Join(dirs, ","))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var cutting atomic.Bool // what is acknowledged from here on does not count, see TestFault_L2_PowerLoss
		over := make(chan struct{})
		opened := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line := lines.Text()
			name, rest, _ := strings.Cut(line, " ")
			switch {
			case line == "open":
				opened = true
				time.AfterFunc(time.Duration(random.IntN(700))*time.Millisecond, func() {
					defer close(over)
					cutting.Store(true)
					var all sync.WaitGroup
					for _, d := range disks {
						all.Go(d.cut)
					}
					all.Wait()
					time.Sleep(50 * time.Millisecond)
					_ = cmd.Process.Kill()
				})
			case strings.HasPrefix(line, "g") && strings.HasSuffix(rest, ` "" <nil>`) && !cutting.Load():
				acked[name] = max(acked[name], number(strings.Replace(rest, " ", ".", 1)))
			case strings.HasPrefix(line, "open:"):
				t.Fatalf("round %d: %s", round, line)
			}
		}
		if !opened {
			t.Fatalf("round %d: the ring did not begin", round)
		}
		<-over
		_ = cmd.Wait() // "signal: killed"
		for _, d := range disks {
			d.mend()
		}
		nodes, err := openAll(dirs)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		mustAppend(t, nodes[round%3], ref(fmt.Sprint("after-", round), "", "x")) // somebody leads, and all before it is committed
		deadline := time.Now().Add(30 * time.Second)
		for _, l := range nodes {
			for l.Applied() != nodes[round%3].Applied() && time.Now().Before(deadline) {
				time.Sleep(5 * time.Millisecond)
			}
		}
		for i, l := range nodes {
			for name, n := range acked {
				if got := number(l.ref(name)); got < n {
					t.Errorf("round %d: on node %s %s is %d, %d was acknowledged", round, three[i], name, got, n)
				}
			}
		}
		for _, l := range nodes {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if t.Failed() {
			break
		}
	}
	total := 0
	for _, n := range acked {
		total += n
	}
	if total < rounds {
		t.Errorf("only %d entries were appended: nothing was tried", total)
	}
	t.Logf("%d power losses of all three, %d entries acknowledged", rounds, total)
}
