// Package render evaluates the apps of one environment. It is the only package that knows CUE.
//
// # A repository
//
//	cue.mod/module.cue           the module's path, which imports begin with
//	cue.mod/pkg/shoal.dev/schema a copy of Shoal's definitions, so that stock cue finds them
//	shoal.cue                    environments: NAME: {ref, class, namespace, namespaces, atomic}
//	values/                      packages that apps import; @if(CLASS) chooses files by the environment's class
//	apps/NAME/                   one app: a CUE package, and the *.yaml beside it
//
// An app's package embeds schema.#Package, which gives it a field for every kind and collects what stands in them in
// `objects`; so `cue export -e objects` of the unmodified cue command prints what Shoal runs, before defaults:
//
//	package web
//
//	import "shoal.dev/schema"
//
//	schema.#Package
//
//	app: web: {image: "shop.example/web:1.4", ports: http: 8080}
//	deployment: worker: spec: {...}       // Kubernetes' own form
//	objects: any: {apiVersion: ..., ...}  // any object as it is
//
// Fields that begin with _ or # are helpers; other regular fields are errors, lest a typing error lose an object. An
// import is of the repository's module or of the schema; there is no registry. The embedded definitions are used, and
// a copy that differs from them is refused.
//
// What an evaluation may know beside the tree are the facts of its environment: the class by @if(CLASS), and
// @tag(environment), @tag(ref), @tag(pr), @tag(url) in the app's own package. Stock cue is given the same by -t, and
// takes those only that a package uses.
//
// # How it is evaluated
//
// CUE's instances are made by hand from the tree (load.go), because its own loader costs more than the evaluation. A
// CUE context keeps all it ever evaluated, so each serves AppsPerContext apps and is dropped; compiling the schema
// into a new one (Prepare) may be done before there is work. Load reads and parses an app and knows what it depends on
// before Eval spends any time on it, so that even an app that kills its process has a cache key (deps.go).
//
// There is no limit on time or memory here: package nodeagent/renderer runs this in a process that has them.
//
// # What authors are told
//
// Every independent problem at once, each at the deepest field that its author wrote (where.go): CUE's positions name
// the schema first, and leave out missing and misspelt fields where there are other errors (problems.go).
package render
