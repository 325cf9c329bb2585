package nodeagent

import (
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
)

// spot is where an object is written, for those who mend it.
type spot struct {
	file string
	line int
	app  string
}

// remember keeps the places of what was rendered last for an environment.
func (d *Deployer) remember(environment string, apps []desired.App) {
	places := map[desired.Key]spot{}
	for _, a := range apps {
		for _, item := range a.Items {
			places[item.Key] = spot{item.File, item.Line, a.Name}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.places[environment] = places
}

// Place is the file and line an object was written at, as of the newest render; "" if that is not known.
func (d *Deployer) Place(environment string, key desired.Key) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.places[environment][key]
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s:%d", at.file, at.line)
}

// problem is what the ring said of a commit, at the place of the object that it names first, if it names one.
func (d *Deployer) problem(env render.Environment, refused string) render.Problem {
	p := render.Problem{File: env.Ref, Text: refused}
	d.mu.Lock()
	defer d.mu.Unlock()
	first, longest := len(refused), 0
	for key, at := range d.places[env.Name] {
		name := key.String()
		// "Service dev/web" is also where "Service dev/web-admin" is: of two at one place the longer is meant
		if i := strings.Index(refused, name); i >= 0 && (i < first || i == first && len(name) > longest) {
			first, longest = i, len(name)
			p.File, p.Line, p.App = at.file, at.line, at.app
		}
	}
	return p
}
