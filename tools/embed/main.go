// Command embed compresses programs into the directory that is built into shoal:
//
//	embed DIR PROGRAM...
//
// writes DIR/<base name>.zst for each, and leaves alone what would be the same.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: embed DIR PROGRAM...")
		os.Exit(2)
	}
	for _, program := range os.Args[2:] {
		if err := embed(os.Args[1], program); err != nil {
			fmt.Fprintln(os.Stderr, "embed:", err)
			os.Exit(1)
		}
	}
}

func embed(dir, program string) error {
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	packed := z.EncodeAll(b, nil)
	path := filepath.Join(dir, filepath.Base(program)+".zst")
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, packed) {
		return nil // its time stays, and so does go's build cache
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, packed, 0o644)
}
