package diff

import (
	"encoding/json"
	"slices"
	"strings"
)

// exposure says what a change lets outsiders reach, and what no longer.
func exposure(kind string, before, after map[string]any) []Note {
	was, is := doors(kind, before), doors(kind, after)
	var notes []Note
	for _, d := range is {
		if !slices.Contains(was, d) {
			notes = append(notes, Note{Exposes, d})
		}
	}
	for _, d := range was {
		if !slices.Contains(is, d) {
			notes = append(notes, Note{Hides, "no longer " + d})
		}
	}
	return notes
}

// doors lists what of an object can be reached from outside of the ring, sorted, each once.
func doors(kind string, tree map[string]any) (out []string) {
	spec := object(tree, "spec")
	switch kind {
	case "Service":
		out = serviceDoors(spec)
	case "Ingress":
		out = ingressDoors(spec)
	case "HTTPRoute", "GRPCRoute", "TLSRoute":
		for _, h := range list(spec, "hostnames") {
			out = append(out, "host "+word(h))
		}
	case "Pod":
		out = podDoors(spec)
	case "CronJob":
		out = podDoors(object(spec, "jobTemplate", "spec", "template", "spec"))
	default:
		out = podDoors(object(spec, "template", "spec"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func serviceDoors(spec map[string]any) (out []string) {
	kind := word(spec["type"])
	for _, p := range list(spec, "ports") {
		port, _ := p.(map[string]any)
		number, protocol := word(port["port"]), "/"+orTCP(port["protocol"])
		if kind == "LoadBalancer" {
			out = append(out, "port "+number+protocol+" of a load balancer")
		}
		if node := word(port["nodePort"]); node != "" && node != "0" {
			out = append(out, "node port "+node+protocol)
		} else if kind == "NodePort" {
			out = append(out, "a node port for "+number+protocol)
		}
	}
	for _, ip := range list(spec, "externalIPs") {
		out = append(out, "address "+word(ip))
	}
	return out
}

func ingressDoors(spec map[string]any) (out []string) {
	if spec["defaultBackend"] != nil {
		out = append(out, "every host")
	}
	for _, r := range list(spec, "rules") {
		rule, _ := r.(map[string]any)
		host := word(rule["host"])
		if host == "" {
			host = "every host"
		} else {
			host = "host " + host
		}
		paths := list(object(rule, "http"), "paths")
		for _, p := range paths {
			path, _ := p.(map[string]any)
			out = append(out, host+" at "+word(path["path"]))
		}
		if len(paths) == 0 {
			out = append(out, host)
		}
	}
	return out
}

func podDoors(spec map[string]any) (out []string) {
	if spec["hostNetwork"] == true {
		out = append(out, "the ports of its pods on the host's network")
	}
	for _, f := range []string{"containers", "initContainers"} {
		for _, c := range list(spec, f) {
			container, _ := c.(map[string]any)
			for _, p := range list(container, "ports") {
				port, _ := p.(map[string]any)
				if host := word(port["hostPort"]); host != "" && host != "0" && spec["hostNetwork"] != true {
					out = append(out, "host port "+host+"/"+orTCP(port["protocol"]))
				}
			}
		}
	}
	return out
}

func orTCP(protocol any) string {
	if s := word(protocol); s != "" {
		return s
	}
	return "TCP"
}

// object goes down a tree by keys; nil where there is none.
func object(tree map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		tree, _ = tree[k].(map[string]any)
	}
	return tree
}

func list(tree map[string]any, key string) []any {
	l, _ := tree[key].([]any)
	return l
}

// word is a string or number as text, "" for anything else.
func word(v any) string {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v)
	case json.Number:
		return v.String()
	}
	return ""
}
