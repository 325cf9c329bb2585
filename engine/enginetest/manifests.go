package enginetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Manifests is a repository of manifests that somebody changes at random, in CUE and YAML. Most changes are sound; some
// have a mistake, some do not change what runs at all.
type Manifests struct {
	rng    *rand.Rand
	images []string
	args   string // of all containers, as a list
	apps   []*madeUp
	made   int
}

// madeUp is an app of Manifests.
type madeUp struct {
	name, dir, file string
	yaml            bool
	image, value    string
	replicas        int
	port            bool
	text            string // of a ConfigMap that no pod mounts; "": there is none
	secret          string // the same of a Secret
	remark          int    // in a comment
	broken          bool   // it has a mistake
}

// NewManifests begins with two apps, whose containers run any of the images with some arguments.
func NewManifests(rng *rand.Rand, args []string, images ...string) *Manifests {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = strconv.Quote(arg)
	}
	m := &Manifests{rng: rng, images: images, args: "[" + strings.Join(quoted, ", ") + "]"}
	m.add()
	m.add()
	return m
}

// maxMadeUp bounds the apps of Manifests, and so what a machine is to run.
const maxMadeUp = 5

func (m *Manifests) add() string {
	m.made++
	a := &madeUp{
		name: fmt.Sprintf("app%d", m.made), file: "manifests", image: m.images[m.rng.IntN(len(m.images))], value: m.word(), replicas: 1 + m.rng.IntN(2),
		port: m.rng.IntN(2) == 0, yaml: m.rng.IntN(3) == 0,
	}
	a.dir = a.name
	m.apps = append(m.apps, a)
	return "add " + a.name
}

func (m *Manifests) word() string { return fmt.Sprintf("v%d", m.rng.IntN(1_000_000)) }

// Change changes one thing, at times two or three, and says what. Mistakes are mended after a while.
func (m *Manifests) Change() string {
	var said []string
	for _, a := range m.apps {
		if a.broken && m.rng.IntN(3) == 0 {
			a.broken = false
			said = append(said, "mend "+a.name)
		}
	}
	for range []int{1, 1, 1, 2, 3}[m.rng.IntN(5)] {
		said = append(said, m.change())
	}
	return strings.Join(said, ", ")
}

func (m *Manifests) change() string {
	if len(m.apps) < 2 {
		return m.add()
	}
	a := m.apps[m.rng.IntN(len(m.apps))]
	flip := func(s *string) {
		if *s == "" || m.rng.IntN(2) == 0 {
			*s = m.word()
		} else {
			*s = ""
		}
	}
	if m.rng.IntN(30) == 0 {
		m.apps = []*madeUp{a}
		return "remove all but " + a.name
	}
	switch m.rng.IntN(14) {
	case 0, 1:
		a.value = m.word()
		return "env of " + a.name
	case 2:
		a.image = m.images[m.rng.IntN(len(m.images))]
		return "image of " + a.name
	case 3, 4:
		a.replicas = m.rng.IntN(4)
		return fmt.Sprintf("%d of %s", a.replicas, a.name)
	case 5:
		if len(m.apps) < maxMadeUp {
			return m.add()
		}
		a.value = m.word()
		return "env of " + a.name
	case 6:
		m.apps = slices.DeleteFunc(m.apps, func(other *madeUp) bool { return other == a })
		return "remove " + a.name
	case 7:
		a.port = !a.port
		return "service of " + a.name
	case 8:
		flip(&a.text)
		return "text of " + a.name
	case 9:
		flip(&a.secret)
		return "secret of " + a.name
	case 10:
		a.file = "m" + m.word()
		return "rename the file of " + a.name
	case 11:
		a.dir = a.name + "-" + m.word()
		return "rename the directory of " + a.name
	case 12:
		a.yaml = !a.yaml
		return "another language for " + a.name
	default:
		if m.rng.IntN(2) == 0 {
			a.remark++
			return "a remark on " + a.name
		}
		a.broken = !a.broken
		return fmt.Sprintf("a mistake in %s: %t", a.name, a.broken)
	}
}

// Files are the files of the repository as it is now.
func (m *Manifests) Files() map[string]string {
	files := map[string]string{
		"cue.mod/module.cue": "module: \"shop.example/cluster\"\nlanguage: version: \"v0.15.0\"\n",
		"shoal.cue":          "package shoal\n\nimport \"shoal.dev/schema\"\n\nschema.#Repository\n\nenvironments: dev: ref: \"main\"\n",
	}
	for _, a := range m.apps {
		if a.yaml {
			files["apps/"+a.dir+"/"+a.file+".yaml"] = a.inYAML(m.args)
		} else {
			files["apps/"+a.dir+"/"+a.file+".cue"] = a.inCUE(m.args)
		}
	}
	return files
}

func (a *madeUp) inCUE(args string) string {
	replicas := fmt.Sprint(a.replicas)
	if a.broken {
		replicas = `"many"`
	}
	var b strings.Builder
	fmt.Fprintf(&b, "package app\n\nimport \"shoal.dev/schema\"\n\nschema.#Package\n\n// Remark %d.\napp: %q: {\n\timage: %q\n\targs: %s\n\treplicas: %s\n\tenv: VALUE: %q\n",
		a.remark, a.name, a.image, args, replicas, a.value)
	if a.port {
		b.WriteString("\tports: http: 8080\n")
	}
	b.WriteString("}\n")
	if a.text != "" {
		fmt.Fprintf(&b, "configMap: %q: data: text: %q\n", a.name+"-text", a.text)
	}
	if a.secret != "" {
		fmt.Fprintf(&b, "secret: %q: stringData: key: %q\n", a.name+"-key", a.secret)
	}
	return b.String()
}

func (a *madeUp) inYAML(args string) string {
	kind := "Deployment"
	if a.broken {
		kind = "Deploiment"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Remark %d.
apiVersion: apps/v1
kind: %s
metadata: {name: %[3]s, labels: {app.kubernetes.io/name: %[3]s}}
spec:
  replicas: %[4]d
  selector: {matchLabels: {app.kubernetes.io/name: %[3]s}}
  template:
    metadata: {labels: {app.kubernetes.io/name: %[3]s}}
    spec: {containers: [{name: %[3]s, image: %[5]q, args: %[6]s, env: [{name: VALUE, value: %[7]s}]}]}
`, a.remark, kind, a.name, a.replicas, a.image, args, a.value)
	if a.port {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %[1]s}\nspec: {selector: {app.kubernetes.io/name: %[1]s}, ports: [{name: http, port: 8080}]}\n", a.name)
	}
	if a.text != "" {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s-text}\ndata: {text: %s}\n", a.name, a.text)
	}
	if a.secret != "" {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s-key}\nstringData: {key: %s}\n", a.name, a.secret)
	}
	return b.String()
}
