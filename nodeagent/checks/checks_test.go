package checks_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/nodeagent/checks"
)

func TestFeature_P3_Checks(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
		case "/bad":
			http.Error(w, "token: hunter2", http.StatusServiceUnavailable)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/meta":
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		case "/api/v1/query":
			fmt.Fprint(w, map[string]string{
				"up == 1": `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`,
				"up == 2": `{"status":"success","data":{"resultType":"vector","result":[]}}`,
				"1":       `{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}`,
				"0":       `{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}`,
				"up[1m]":  `{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"1"]]}]}}`,
				"up{":     `{"status":"error","errorType":"bad_data","error":"parse error"}`,
				"text":    `<html>`,
			}[r.FormValue("query")])
		}
	}))
	defer srv.Close()
	for _, c := range []struct {
		check promote.Check
		want  string
	}{
		{promote.Check{HTTP: srv.URL + "/ok"}, "true answered 200 OK"},
		{promote.Check{HTTP: srv.URL + "/bad"}, "false answered 503 Service Unavailable"},
		{promote.Check{HTTP: srv.URL + "/round"}, "false more than 5 redirects"},
		{promote.Check{HTTP: srv.URL + "/meta"}, "false dial tcp 169.254.169.254:80: 169.254.169.254 is local to a link, and is not asked"},
		{promote.Check{PromQL: "up == 1", At: srv.URL + "/"}, "true gives 1"},
		{promote.Check{PromQL: "up == 2", At: srv.URL}, "false gives nothing"},
		{promote.Check{PromQL: "1", At: srv.URL}, "true gives 1"},
		{promote.Check{PromQL: "0", At: srv.URL}, "false gives 0"},
		{promote.Check{PromQL: "up[1m]", At: srv.URL}, "true gives 1 series"},
		{promote.Check{PromQL: "up{", At: srv.URL}, "false the query failed: parse error"},
		{promote.Check{PromQL: "text", At: srv.URL}, "false answered 200 OK, which is not what Prometheus says"},
		{promote.Check{HTTP: "http://127.0.0.1:1/"}, "false dial tcp 127.0.0.1:1: connect: connection refused"},
	} {
		a := checks.New(netip.AddrPort{}).Ask(t.Context(), c.check)
		if got := fmt.Sprint(a.OK, " ", a.Text); got != c.want {
			t.Errorf("%+v:\n%s\nwant\n%s", c.check, got, c.want)
		}
		if strings.Contains(a.Text, "hunter2") {
			t.Errorf("%+v repeats what was answered: %s", c.check, a.Text)
		}
	}
}
