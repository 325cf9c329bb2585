// Command figures reads the output of `go test -bench` and prints one line of JSON for each figure it knows, in the form
// of cmd/shoal/e2e's benchmarks: the value, beside it the floor that was measured in the same run, and the ratio.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// wanted is what is printed, in this order. Benchmarks are named package directory/name.
var wanted = []struct {
	bench, name, unit string
	scale             float64 // of ns/op into the unit; 0: inputs a second
	goal              float64
	floor             string
}{
	{"renderer/Start", "renderer's child: start to ready", "ms", 1e-6, 0, ""},
	{"renderer/Cold/1", "render, cold: 1 app; floor: its objects as YAML, parsed", "ms", 1e-6, 0, "render/ParseYAML/1"},
	{"renderer/Cold/100", "render, cold: 100 apps; floor: their objects as YAML, parsed", "ms", 1e-6, 0, "render/ParseYAML/100"},
	{"renderer/Cold/1000", "render, cold: 1000 apps; floor: their objects as YAML, parsed", "ms", 1e-6, 0, "render/ParseYAML/1000"},
	{"renderer/Changed/1", "render, one app changed of 1; floor: its objects as YAML, parsed", "ms", 1e-6, 20, "render/ParseYAML/1"},
	{"renderer/Changed/100", "render, one app changed of 100; floor: its objects as YAML, parsed", "ms", 1e-6, 20, "render/ParseYAML/1"},
	{"renderer/Changed/1000", "render, one app changed of 1000; floor: its objects as YAML, parsed", "ms", 1e-6, 20, "render/ParseYAML/1"},
	{"cluster/StepPhase", "Step: reports on 1000 pods", "inputs/s", 0, 0, ""},
	{"cluster/StepActivateOne", "Step: a commit that changes one of 1000 apps", "ms", 1e-6, 0, ""},
	{"cluster/StepActivateAll", "Step: the first commit of 1000 apps", "ms", 1e-6, 0, ""},
	{"cluster/Snapshot", "a State of 1000 apps written and read", "ms", 1e-6, 0, ""},
	{"ledger/Append", "ledger: an input appended and stepped; floor: write and fsync of as many bytes", "ms", 1e-6, 0, "ledger/Fsync"},
	{"ledger/AppendMany/64", "ledger: 64 at once", "inputs/s", 0, 0, ""},
	{"nodeagent/Look", "agent: a look at 100 pods at rest", "ms", 1e-6, 0, ""},
	{"place/PlaceAll", "placing 100,000 pods on 5,000 nodes, from scratch", "ms", 1e-6, 100, ""},
	{"place/LostNode", "placing the 20 pods of one lost node of 5,000", "ms", 1e-6, 1, ""},
	{"wire/Compile10000x3", "tables of 10,000 Services with 3 endpoints, compiled", "ms", 1e-6, 0, ""},
	{"firewall/FirstLoad10000x3", "10,000 Services with 3 endpoints: loaded into the kernel", "ms", 1e-6, 300, ""},
	{"firewall/OneChangeOf10000x3", "10,000 Services with 3 endpoints: one changed", "ms", 1e-6, 20, ""},
	{"nettest/Connect/service_of_1", "TCP connect to a Service, the only one; floor: to its pod", "us", 1e-3, 0, "nettest/Connect/pod"},
	{"nettest/Connect/service_of_10000", "TCP connect to a Service, one of 10,000; floor: to its pod", "us", 1e-3, 0, "nettest/Connect/pod"},
	{"containers/List", "container runtime: the records of 100 pods at rest", "ms", 1e-6, 0, ""},
}

// figure is one line, as in cmd/shoal/e2e.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	N     int     `json:"n"`
	Goal  float64 `json:"goal,omitempty"`
	Floor float64 `json:"floor,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
}

type result struct {
	n  int
	ns float64
}

func main() {
	results, failed := read(os.Stdin)
	for _, w := range wanted {
		r, ok := results[w.bench]
		if !ok {
			continue
		}
		f := figure{Name: w.name, Unit: w.unit, N: r.n, Goal: w.goal, Value: r.ns * w.scale}
		if w.scale == 0 {
			f.Value = 1e9 / r.ns
		}
		if floor, ok := results[w.floor]; ok {
			f.Floor = floor.ns * w.scale
			f.Ratio = round(f.Value / f.Floor)
		}
		f.Value, f.Floor = round(f.Value), round(f.Floor)
		line, _ := json.Marshal(f) // numbers and texts: it cannot fail
		fmt.Println(string(line))
	}
	if failed {
		os.Exit(1)
	}
}

func round(v float64) float64 { return float64(int64(v*1000+0.5)) / 1000 }

// read takes in results by package directory and name, without the number of processors; lines that are none go to
// standard error. failed tells that a package did not come through.
func read(in io.Reader) (results map[string]result, failed bool) {
	results = map[string]result{}
	dir := ""
	for lines := bufio.NewScanner(in); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 2 && fields[0] == "pkg:":
			dir = fields[1][strings.LastIndexByte(fields[1], '/')+1:]
		case len(fields) >= 4 && strings.HasPrefix(fields[0], "Benchmark") && fields[3] == "ns/op":
			name := strings.TrimPrefix(fields[0], "Benchmark")
			if i := strings.LastIndexByte(name, '-'); i > 0 {
				name = name[:i]
			}
			n, _ := strconv.Atoi(fields[1])
			ns, err := strconv.ParseFloat(fields[2], 64)
			if err == nil && ns > 0 {
				results[dir+"/"+name] = result{n, ns}
			}
		case len(fields) > 0 && (fields[0] == "FAIL" || fields[0] == "---"):
			failed = true
			fallthrough
		default:
			fmt.Fprintln(os.Stderr, lines.Text())
		}
	}
	return results, failed
}
