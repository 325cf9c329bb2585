package main

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// Images that objects ask for are kept, whether a pod of theirs runs now or not; and nothing is collected because something
// could not be read.
func TestWantedImages(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	r := enginetest.NewRing(t)
	in := r.Activation("dev", `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers: [{name: prepare, image: "registry.example/tools"}]
      containers: [{name: app, image: "web:v1"}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 0 30 2 *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: "registry.example/report@`+digest+`"}]}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: texts}
`)
	fixed := "sha256:" + strings.Repeat("b", 64)
	in.Activate.Images = map[string]string{"web:v1": fixed}
	r.Must(in)
	wanted, err := wantedImages(r.State, r.Content)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"docker.io/library/web:v1", "registry.example/report@" + digest, "registry.example/tools:latest", digest, fixed, "web:v1"}
	if got := slices.Sorted(maps.Keys(wanted)); !slices.Equal(got, want) {
		t.Errorf("wanted are %q, want %q", got, want)
	}
	if !isLocal("shoal.local/web:v1") || isLocal("docker.io/library/shoal.local:v1") {
		t.Error("what people pushed to the ring's own store stays, and nothing else")
	}

	var saved bytes.Buffer
	if err := r.State.Encode(&saved); err != nil {
		t.Fatal(err)
	}
	restarted, err := cluster.DecodeState(&saved)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wantedImages(restarted, noContent{}); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("objects that cannot be read: %v", err)
	}
}

// TestFault_P8_ImagesToGoBackTo: the images of the two versions before the one that runs stay on the nodes, by their digests, though nothing of
// Git names them any more.
func TestFault_P8_ImagesToGoBackTo(t *testing.T) {
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	r := enginetest.NewRing(t)
	r.Up(1)
	for i, c := range []string{"a", "b", "c", "d"} {
		in := r.Activation("dev", `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: app, image: "web:v`+c+`"}, {name: beside, image: "registry.example/log@`+digest(strconv.Itoa(i))+`"}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 0 30 2 *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: "report:v`+c+`"}]}}}}
`)
		in.Activate.Images = map[string]string{"web:v" + c: digest(c), "report:v" + c: digest("e" + c)[:71]}
		in.Activate.Tree = in.Activate.Commit
		r.Must(in)
	}
	wanted, err := wantedImages(r.State, r.Content)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name := range wanted {
		if strings.HasPrefix(name, "sha256:") {
			got = append(got, name[7:9])
		}
	}
	slices.Sort(got)
	if want := "11 22 33 bb cc dd eb ec ed"; strings.Join(got, " ") != want {
		t.Errorf("digests that stay: %s, want %s", strings.Join(got, " "), want)
	}
}

type noContent struct{}

func (noContent) Get(desired.Digest) ([]byte, error) { return nil, errors.New("disk on fire") }
