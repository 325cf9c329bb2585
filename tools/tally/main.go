// Command tally reads the output of `go test -json` and prints what failed, what was skipped, the ten slowest
// tests, what the failed ones complained of, and last a line "N passed, N failed". It exits with 1 if anything failed,
// or as root was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// complaint is the first line of what a test says of itself.
var complaint = regexp.MustCompile(`^ +[a-z0-9_]+_test\.go:\d+: `)

// What is printed of a failed test: the end of its output.
const (
	mostLines = 30
	mostChars = 400
)

func end(lines []string) string {
	lines = lines[max(0, len(lines)-mostLines):]
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(short(line))
	}
	return b.String()
}

func short(line string) string {
	if len(line) <= mostChars {
		return line
	}
	return line[:mostChars] + "...\n"
}

func main() {
	before := flag.Int("failed", 0, "failures that happened before the tests")
	log := flag.String("log", os.DevNull, "file for the whole output of failed tests")
	flag.Parse()
	whole, err := os.Create(*log)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(2)
	}
	code := tally(*before, whole)
	if err := whole.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		code = 2
	}
	os.Exit(code)
}

func tally(failed int, whole io.Writer) int {
	output := map[string][]string{} // of tests and packages that are not done
	type timed struct {
		name    string
		seconds float64
	}
	var slow []timed
	broken := map[string]bool{} // packages with a failure
	var complaints []string     // of failed tests, once more: the end of a long output is what is seen
	passed := 0
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // a build error, say
			continue
		}
		name := strings.TrimSpace(e.Package + " " + e.Test)
		switch e.Action {
		case "output", "build-output":
			output[name] = append(output[name], e.Output)
		case "pass":
			if e.Test != "" {
				passed++
				slow = append(slow, timed{name, e.Elapsed})
			}
			delete(output, name)
		case "skip":
			if e.Test != "" && os.Geteuid() == 0 {
				failed++
				fmt.Printf("SKIPPED although root: %s\n%s", name, strings.Join(output[name], ""))
			}
			delete(output, name)
		case "fail", "build-fail":
			// A package fails with its tests: count it only where none of them did, as when it does not build.
			if e.Test != "" || !broken[e.Package] {
				failed++
				fmt.Fprintf(whole, "FAILED %s\n%s", name, strings.Join(output[name], ""))
				fmt.Printf("FAILED %s\n%s", name, end(output[name]))
				complaints = append(complaints, "FAILED "+name+"\n")
				for _, line := range output[name] {
					if complaint.MatchString(line) {
						complaints = append(complaints, short(line))
					}
				}
			}
			broken[e.Package] = true
			delete(output, name)
		}
	}
	slices.SortFunc(slow, func(a, b timed) int { return int(1000*b.seconds) - int(1000*a.seconds) })
	for _, t := range slow[:min(10, len(slow))] {
		fmt.Printf("%7.1fs %s\n", t.seconds, t.name)
	}
	fmt.Print(strings.Join(complaints, ""))
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		return 1
	}
	return 0
}
