package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata/script")

// TestMain lets this test's binary be shoal, and the parts of a node that shoal starts from its own binary.
func TestMain(m *testing.M) {
	if role, ok := roles[arg(1)]; ok {
		os.Exit(role(os.Args[2:]))
	}
	testscript.Main(m, map[string]func(){
		"shoal": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		// The same with ID in place of ids and digests.
		"shoal-ids": func() {
			var out, errs bytes.Buffer
			code := run(context.Background(), os.Args[1:], os.Stdin, &out, &errs)
			_, _ = os.Stdout.Write(idsIn.ReplaceAll(out.Bytes(), []byte("ID")))
			_, _ = os.Stderr.Write(idsIn.ReplaceAll(errs.Bytes(), []byte("ID")))
			os.Exit(code)
		},
	})
}

// TestScripts runs the commands that need no agent, as people do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs shoal and asks for an exit status: exits 2 status --no-such-flag.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS ARGS...")
	}
	if err := ts.Exec("sh", append([]string{"-c", `want=$1; shift; shoal "$@"; code=$?; test $code = $want || { echo "exit status $code, want $want" >&2; exit 1; }`, "sh"}, args...)...); err != nil {
		ts.Fatalf("%v", err)
	}
}
