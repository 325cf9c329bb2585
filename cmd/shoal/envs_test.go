package main

import (
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// TestFeature_P1_AppsByEnvironment: an app is a line, an environment a column.
func TestFeature_P1_AppsByEnvironment(t *testing.T) {
	var b strings.Builder
	printApps(&b, api.Envs{Environments: []api.EnvOf{
		{Name: "dev", Apps: []api.AppOf{{Name: "api", Commit: "1111111111111111"}, {Name: "web", Commit: "2222222222222222"}}},
		{Name: "production", Apps: []api.AppOf{{Name: "web", Commit: "3333333333333333", Ahead: true}, {Name: "api", Ahead: true}}},
		{Name: "empty"},
	}})
	const want = `
APP  dev           production     empty
api  111111111111  -*             -
web  222222222222  333333333333*  -
* an environment before it runs another state of the app
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
