package renderer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// Compile turns an app's objects into what the parent stores: pure, and run within the sandbox, because it decodes
// what strangers wrote. The bytes are handed to the parent as they are.
type Compile func(env render.Environment, app render.App) ([]byte, render.Problems)

// ChildMain is the child's main function; it returns the exit status. cmd/shoal calls it when the binary is started
// in the renderer's role. A nil compile leaves objects as they were written.
func ChildMain(compile Compile) int {
	return childMain(compile, os.Stdin, os.Stdout)
}

func childMain(compile Compile, in io.Reader, out io.Writer) int {
	c := &child{compile: compile, out: bufio.NewWriterSize(out, 64<<10), in: make(chan frame)}
	hi, err := readFrame(in, 1<<20)
	if err != nil {
		return 0 // the parent thought better of it
	}
	if err := hi.decode(&c.hello); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	runtime.GOMAXPROCS(min(runtime.NumCPU(), 4))
	debug.SetMemoryLimit(c.hello.Limits.Memory * 3 / 4)
	debug.SetGCPercent(200)
	debug.SetMaxStack(128 << 20)
	debug.SetTraceback("single")
	sandbox, err := lockUp(c.hello)
	answer := ready{Sandbox: sandbox}
	if err != nil {
		answer.Error = err.Error()
	}
	if err := writeFrame(c.out, frameReady, answer); err != nil || answer.Error != "" {
		return 2
	}
	// One goroutine reads, so that the end of the input ends an evaluation too.
	go func() {
		for {
			f, err := readFrame(in, c.hello.Limits.File+1<<20)
			if err != nil {
				os.Exit(0)
			}
			c.in <- f
		}
	}()
	next := render.Prepare()
	for f := range c.in {
		var q renderRequest
		if f.Type != frameRender {
			fmt.Fprintf(os.Stderr, "frame %c out of turn\n", f.Type)
			return 2
		}
		if err := f.decode(&q); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		if err := c.serve(q, &next); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		if next == nil {
			next = render.Prepare() // ahead of the next request
		}
	}
	return 0
}

type child struct {
	compile Compile
	hello   hello
	out     *bufio.Writer
	in      chan frame
}

func (c *child) serve(q renderRequest, prepared **render.Prepared) error {
	tree := &remoteTree{child: c}
	if q.Environments {
		var a environmentsAnswer
		a.Environments, a.Problems = render.Environments(tree)
		return c.done(tree, a)
	}
	var batch *render.Batch
	for i, name := range q.Apps {
		if i%render.AppsPerContext == 0 {
			if *prepared == nil {
				*prepared = render.Prepare()
			}
			batch = render.NewBatch(*prepared, tree, q.Environment)
			*prepared = nil
		}
		if err := c.app(q, batch, name); err != nil {
			return err
		}
	}
	return c.done(tree, nil)
}

func (c *child) done(tree *remoteTree, answer any) error {
	if tree.broken != nil {
		return tree.broken
	}
	return writeFrame(c.out, frameDone, answer)
}

func (c *child) app(q renderRequest, batch *render.Batch, name string) error {
	if err := writeFrame(c.out, frameBegin, appHeader{Name: name}); err != nil {
		return err
	}
	loaded := batch.Load(name)
	if err := writeFrame(c.out, frameLoaded, appHeader{Name: name, Deps: loaded.Deps}); err != nil {
		return err
	}
	app := loaded.Eval()
	h := appHeader{Name: name, Problems: app.Problems, Deps: loaded.Deps}
	if len(app.Problems) > 0 {
		return writeFrame(c.out, frameApp, h)
	}
	if !q.Raw && c.compile != nil {
		body, problems := c.compile(q.Environment, app)
		for i := range problems {
			problems[i].App = name
		}
		h.Problems, h.Compiled = problems.Sorted(), true
		return writeFrame(c.out, frameApp, h, body)
	}
	var bodies [][]byte
	for _, o := range app.Objects {
		h.Objects = append(h.Objects, objectHeader{File: o.File, Line: o.Line, Size: len(o.JSON)})
		bodies = append(bodies, o.JSON)
	}
	return writeFrame(c.out, frameApp, h, bodies...)
}

// remoteTree is a source.Tree whose contents the parent has.
type remoteTree struct {
	child  *child
	broken error
}

func (t *remoteTree) call(kind frameType, path string) (frame, reply, error) {
	if t.broken != nil {
		return frame{}, reply{}, t.broken
	}
	if err := writeFrame(t.child.out, kind, path); err != nil {
		t.broken = err
		return frame{}, reply{}, err
	}
	f := <-t.child.in
	var r reply
	if f.Type != frameReply {
		t.broken = fmt.Errorf("frame %c in place of a reply", f.Type)
		return frame{}, reply{}, t.broken
	}
	if err := f.decode(&r); err != nil {
		t.broken = err
		return frame{}, reply{}, err
	}
	switch {
	case r.NotExist:
		return f, r, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	case r.Error != "":
		return f, r, errors.New(r.Error)
	}
	return f, r, nil
}

// Commit implements source.Tree.
func (t *remoteTree) Commit() source.ID { return "" }

// Lookup implements source.Tree.
func (t *remoteTree) Lookup(path string) (source.Entry, error) {
	_, r, err := t.call(frameLookup, path)
	if err != nil {
		return source.Entry{}, err
	}
	if len(r.Entries) != 1 {
		return source.Entry{}, fmt.Errorf("look up %s: %d entries", path, len(r.Entries))
	}
	return r.Entries[0].source(), nil
}

// ReadDir implements source.Tree.
func (t *remoteTree) ReadDir(path string) ([]source.Entry, error) {
	_, r, err := t.call(frameList, path)
	if err != nil {
		return nil, err
	}
	out := make([]source.Entry, len(r.Entries))
	for i, e := range r.Entries {
		out[i] = e.source()
	}
	return out, nil
}

// ReadFile implements source.Tree.
func (t *remoteTree) ReadFile(path string) ([]byte, error) {
	f, _, err := t.call(frameRead, path)
	return f.body, err
}

func (e entry) source() source.Entry {
	return source.Entry{Name: e.Name, ID: source.ID(e.ID), Mode: fs.FileMode(e.Mode)}
}
