// Command images builds the images of the examples and writes them as an OCI archive, as an OCI layout, or
// into a registry.
//
//	go run ./examples/images -push localhost:5000 guestbook:v2 redis
//	go run ./examples/images -archive images.tar
//
// Without names all are built. A name without a tag gets v1.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/shoal-dev/shoal/internal/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	push := flags.String("push", "", "registry to push to, host:port")
	layout := flags.String("layout", "", "directory for an OCI layout; must be empty or absent")
	archive := flags.String("archive", "", "file for an OCI archive; - is standard output")
	prefix := flags.String("prefix", "shoal.local", "registry in the references of a layout or an archive")
	cache := flags.String("cache", "", "directory for Debian's packages; default the user's cache directory")
	arch := flags.String("arch", "", "architecture, amd64 or arm64; default this machine's")
	refresh := flags.Bool("refresh", false, "ask Debian for newer packages")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *push == "" && *layout == "" && *archive == "" {
		return fmt.Errorf("say where to: -push, -layout or -archive")
	}
	want := flags.Args()
	if len(want) == 0 {
		want = images.Names()
	}

	builder := &images.Builder{Cache: *cache, Arch: *arch, Refresh: *refresh}
	var built []images.Named
	for _, w := range want {
		name, tag, ok := strings.Cut(w, ":")
		if !ok {
			tag = "v1"
		}
		img, err := builder.Image(ctx, name, tag)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		if *push != "" {
			if err := images.Push(ctx, *push+"/"+name+":"+tag, img); err != nil {
				return err
			}
		}
		built = append(built, images.Named{Ref: *prefix + "/" + name + ":" + tag, Image: img})
		if *archive != "-" {
			fmt.Fprintf(out, "%s:%s %s\n", name, tag, digest)
		}
	}
	if *layout != "" {
		if err := images.WriteLayout(*layout, built...); err != nil {
			return err
		}
	}
	switch *archive {
	case "":
		return nil
	case "-":
		return images.WriteArchive(out, built...)
	}
	f, err := os.Create(*archive)
	if err != nil {
		return err
	}
	if err := images.WriteArchive(f, built...); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
