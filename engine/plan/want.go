package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// Wants keeps what one node must run from one state to the next, so that a pod nothing changed for is not made
// again. Used by one goroutine; what it hands out is immutable.
type Wants struct {
	Want     Want
	Faults   map[control.PodID]error // pods whose words could not be read; they are not in Want
	made     map[control.PodID]*made
	configs  map[desired.Digest]any // decoded ConfigMaps and Secrets that pods refer to
	services map[string]*namespaceEnv
}

// made remembers what a Pod was made from.
type made struct {
	record   *control.Pod
	node     *cluster.Node
	configs  []desired.Digest
	services *namespaceEnv // nil: it wants none
}

// namespaceEnv is what the pods of a namespace are told of its services. Pods share it: as many variables as there
// are services, in as many pods, would be most of what the agent does and holds. It is the same one as long as the
// variables are.
type namespaceEnv struct {
	vars []corev1.EnvVar // sorted by name
}

// NewWants makes an empty one.
func NewWants() *Wants { return &Wants{Want: Want{}, made: map[control.PodID]*made{}} }

// Copy returns the wants as they are now, for others.
func (w *Wants) Copy() Want { return maps.Clone(w.Want) }

// Update brings Want to what s says the node must run.
func (w *Wants) Update(s *cluster.State, id place.NodeID, content desired.Content) {
	w.Faults = map[control.PodID]error{}
	was, wasMade, wasConfigs, wasServices := w.Want, w.made, w.configs, w.services
	w.services = map[string]*namespaceEnv{}
	w.Want, w.made, w.configs = make(Want, len(was)), make(map[control.PodID]*made, len(was)), map[desired.Digest]any{}
	node, _ := s.Nodes().Get(id)
	for record := range s.PodsOn(id) {
		template, err := s.TemplateOf(record.Object, content)
		if err != nil {
			w.Faults[record.ID] = err
			continue
		}
		m := &made{record: record, node: node}
		p := &Pod{Pod: *record, Spec: &template.Spec, Annotations: template.Annotations}
		if links := p.Spec.EnableServiceLinks; links == nil || *links {
			m.services = w.serviceEnv(s, record.Namespace, wasServices[record.Namespace], content)
			p.ServiceEnv = m.services.vars
		}
		if err := w.configure(s, p, m, wasConfigs, content); err != nil {
			w.Faults[record.ID] = err
			continue
		}
		if old := wasMade[record.ID]; old != nil && old.record == m.record && old.node == m.node &&
			old.services == m.services && slices.Equal(old.configs, m.configs) {
			w.Want[record.ID], w.made[record.ID] = was[record.ID], old
			continue
		}
		pod, err := s.PodObject(record, content)
		if err != nil {
			w.Faults[record.ID] = err
			continue
		}
		p.Spec, p.Annotations, p.Images = &pod.Spec, pod.Annotations, record.Images
		p.Parts = append([]Part{{record.Environment, record.Object}}, p.Parts...)
		if node != nil {
			p.NodeName, p.NodeIP, p.NodeCapacity = node.Name, node.Address, capacity(node.Capacity)
		}
		w.Want[record.ID], w.made[record.ID] = p, m
	}
	for e := range s.Ended().Values() {
		if e.Node == id {
			w.Want[e.Pod] = givenUp(e, was[e.Pod])
		}
	}
}

// givenUp is a pod that is to be taken down if there is anything of it.
func givenUp(e *cluster.Ended, was *Pod) *Pod {
	if was != nil && was.GivenUp {
		return was
	}
	p := &Pod{Spec: &corev1.PodSpec{}, GivenUp: true}
	p.ID, p.Node, p.Epoch, p.Namespace, p.Name = e.Pod, e.Node, e.Epoch, e.Namespace, e.Name
	p.Deleting, p.Grace, p.Why = 1, e.Grace, "it was given up while its node was lost"
	return p
}

func capacity(r place.Resources) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewMilliQuantity(r.MilliCPU, resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(r.Memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(r.Ephemeral, resource.BinarySI),
	}
}

// configure finds the ConfigMaps and Secrets that a pod refers to. One that does not exist is left out: what
// needs it says so, by name, when the container is to start.
func (w *Wants) configure(s *cluster.State, p *Pod, m *made, known map[desired.Digest]any, content desired.Content) error {
	names := referenced(p.Spec)
	p.ConfigMaps, p.Secrets = map[string]*corev1.ConfigMap{}, map[string]*corev1.Secret{}
	for _, ref := range names {
		object, ok := s.Objects().Get(desired.Key{Kind: ref.kind, Namespace: p.Namespace, Name: ref.name})
		if !ok {
			continue
		}
		m.configs = append(m.configs, object.Digest)
		p.Parts = append(p.Parts, Part{object.Environment, object.Digest})
		value, ok := w.configs[object.Digest]
		if !ok {
			if value, ok = known[object.Digest]; !ok {
				var err error
				if value, err = decodeConfig(ref.kind, object.Digest, content); err != nil {
					return fmt.Errorf("%s: %w", object.Key, err)
				}
			}
			w.configs[object.Digest] = value
		}
		switch v := value.(type) {
		case *corev1.ConfigMap:
			p.ConfigMaps[ref.name] = v
		case *corev1.Secret:
			p.Secrets[ref.name] = v
		}
	}
	return nil
}

func decodeConfig(kind string, d desired.Digest, content desired.Content) (any, error) {
	b, err := content.Get(d)
	if err != nil {
		return nil, err
	}
	var into any = new(corev1.ConfigMap)
	if kind == "Secret" {
		into = new(corev1.Secret)
	}
	return into, json.Unmarshal(b, into)
}

type reference struct{ kind, name string }

// referenced lists the ConfigMaps and Secrets that a spec names, sorted, each once.
func referenced(spec *corev1.PodSpec) []reference {
	var out []reference
	add := func(kind, name string) {
		if name != "" {
			out = append(out, reference{kind, name})
		}
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			for _, from := range list[i].EnvFrom {
				if from.ConfigMapRef != nil {
					add("ConfigMap", from.ConfigMapRef.Name)
				}
				if from.SecretRef != nil {
					add("Secret", from.SecretRef.Name)
				}
			}
			for _, e := range list[i].Env {
				if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
					add("ConfigMap", e.ValueFrom.ConfigMapKeyRef.Name)
				}
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					add("Secret", e.ValueFrom.SecretKeyRef.Name)
				}
			}
		}
	}
	for _, v := range spec.Volumes {
		if v.ConfigMap != nil {
			add("ConfigMap", v.ConfigMap.Name)
		}
		if v.Secret != nil {
			add("Secret", v.Secret.SecretName)
		}
		if v.Projected != nil {
			for _, from := range v.Projected.Sources {
				if from.ConfigMap != nil {
					add("ConfigMap", from.ConfigMap.Name)
				}
				if from.Secret != nil {
					add("Secret", from.Secret.Name)
				}
			}
		}
	}
	for _, ref := range spec.ImagePullSecrets {
		add("Secret", ref.Name)
	}
	slices.SortFunc(out, func(a, b reference) int { return strings.Compare(a.kind+"/"+a.name, b.kind+"/"+b.name) })
	return slices.Compact(out)
}

// serviceEnv are the variables {SVC}_SERVICE_HOST, {SVC}_SERVICE_PORT and Docker's links for the services of a
// namespace, as the kubelet makes them, sorted.
func (w *Wants) serviceEnv(s *cluster.State, namespace string, known *namespaceEnv, content desired.Content) *namespaceEnv {
	if env, ok := w.services[namespace]; ok {
		return env
	}
	var env []corev1.EnvVar
	for key, svc := range s.Services().All() {
		if key.Namespace != namespace || !svc.ClusterIP.IsValid() {
			continue
		}
		o, err := s.ServiceOf(svc.Object, content)
		if err != nil || len(o.Spec.Ports) == 0 {
			continue
		}
		env = append(env, serviceVars(key.Name, svc.ClusterIP, o.Spec.Ports)...)
	}
	slices.SortFunc(env, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	if known == nil || !slices.Equal(known.vars, env) {
		known = &namespaceEnv{vars: env}
	}
	w.services[namespace] = known
	return known
}

func serviceVars(name string, ip netip.Addr, ports []corev1.ServicePort) []corev1.EnvVar {
	upper := func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
	prefix := upper(name)
	number := func(p corev1.ServicePort) string { return strconv.Itoa(int(p.Port)) }
	env := []corev1.EnvVar{
		{Name: prefix + "_SERVICE_HOST", Value: ip.String()},
		{Name: prefix + "_SERVICE_PORT", Value: number(ports[0])},
	}
	for i, p := range ports {
		if p.Name != "" {
			env = append(env, corev1.EnvVar{Name: prefix + "_SERVICE_PORT_" + upper(p.Name), Value: number(p)})
		}
		proto := strings.ToLower(string(p.Protocol))
		if proto == "" {
			proto = "tcp"
		}
		url := proto + "://" + netip.AddrPortFrom(ip, uint16(p.Port)).String()
		if i == 0 {
			env = append(env, corev1.EnvVar{Name: prefix + "_PORT", Value: url})
		}
		link := prefix + "_PORT_" + number(p) + "_" + strings.ToUpper(proto)
		env = append(env,
			corev1.EnvVar{Name: link, Value: url},
			corev1.EnvVar{Name: link + "_PROTO", Value: proto},
			corev1.EnvVar{Name: link + "_PORT", Value: number(p)},
			corev1.EnvVar{Name: link + "_ADDR", Value: ip.String()},
		)
	}
	return env
}
