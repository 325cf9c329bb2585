package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// Annotations of a Kubernetes Secret whose values are sealed. Authors cannot set them: what begins with shoal.dev/ is refused in manifests.
const (
	AnnotationEnvironment = "shoal.dev/sealed"    // the environment
	AnnotationRecipient   = "shoal.dev/recipient" // whom the values are sealed for
	AnnotationIdentity    = "shoal.dev/identity"  // IdentityFile, where there is one
	AnnotationSOPS        = "shoal.dev/sops"      // the whole file of SOPS; data then has its keys only
)

// MaxSOPS bounds a file of SOPS, as it must fit into the annotations of a Kubernetes Secret; maxIdentity does it for IdentityFile.
const (
	MaxSOPS     = 160 << 10
	maxIdentity = 64 << 10
)

// Object is a Kubernetes Secret with its values sealed, in the form in which nodes store and hand it on: data holds what Value.Envelope
// returns, so that all who look at keys find them. It has all that a node needs to open it beside its own key.
type Object struct {
	File
	Identity []byte // IdentityFile; nil: it is kept elsewhere
	SOPS     []byte // a file of SOPS; nil: Values has the values
}

const envelopeHead = "shoal sealed 1\n"

// Envelope is the value with its MAC.
func (v Value) Envelope() []byte {
	return append([]byte(envelopeHead+v.MAC+"\n"), v.Age...)
}

// openEnvelope undoes Envelope.
func openEnvelope(key string, b []byte) (Value, error) {
	rest, ok := bytes.CutPrefix(b, []byte(envelopeHead))
	mac, raw, ok2 := bytes.Cut(rest, []byte("\n"))
	if !ok || !ok2 || len(mac) != 0 && len(mac) != 32 {
		return Value{}, fmt.Errorf("key %s: is not sealed", key)
	}
	return Value{Key: key, MAC: string(mac), Age: raw}, nil
}

// ObjectOf makes an object of a file: of one that Check has found right.
func ObjectOf(environment string, f Named, recipient string, identity []byte) (*Object, Problems) {
	name := strings.TrimSuffix(strings.TrimSuffix(f.Name, ".yaml"), ".json")
	o := &Object{Identity: identity}
	var ps Problems
	if len(identity) > maxIdentity {
		ps.add(path(environment, IdentityFile), 0, "%d bytes long; at most %d", len(identity), maxIdentity)
		return nil, ps
	}
	if !strings.HasSuffix(f.Name, ".json") && !IsSOPS(f.Data) {
		file, ps := Parse(environment, name, f.Data)
		if file == nil {
			return nil, ps
		}
		o.File = *file
		return o, nil
	}
	s, ps := ParseSOPS(environment, f.Name, f.Data)
	if s == nil {
		return nil, ps
	}
	o.File = File{Environment: environment, Name: name, Recipient: recipient, Type: s.kind()}
	if o.SOPS = f.Data; len(o.SOPS) > MaxSOPS {
		ps.add(s.file, 0, "%d bytes long; at most %d of a file of SOPS", len(o.SOPS), MaxSOPS)
	}
	for _, e := range s.sealedEntries() {
		if checkKey(e.Key) != nil {
			ps.add(s.file, e.line, "%v", checkKey(e.Key))
			continue
		}
		if err := o.Put(e.Value); err != nil {
			ps.add(s.file, e.line, "%v", err)
		}
	}
	if len(ps) > 0 {
		return nil, ps.sorted()
	}
	return o, nil
}

// Annotations are those of the Kubernetes Secret.
func (o *Object) Annotations() map[string]string {
	out := map[string]string{AnnotationEnvironment: o.Environment, AnnotationRecipient: o.Recipient}
	if o.Identity != nil {
		out[AnnotationIdentity] = string(o.Identity)
	}
	if o.SOPS != nil {
		out[AnnotationSOPS] = string(o.SOPS)
	}
	return out
}

// Data is that of the Kubernetes Secret: sealed.
func (o *Object) Data() map[string][]byte {
	out := make(map[string][]byte, len(o.Values))
	for _, v := range o.Values {
		out[v.Key] = v.Envelope()
	}
	return out
}

// IsObject says whether a Kubernetes Secret with these annotations is sealed.
func IsObject(annotations map[string]string) bool { return annotations[AnnotationEnvironment] != "" }

// ParseObject undoes Annotations and Data.
func ParseObject(name, kind string, annotations map[string]string, data map[string][]byte) (*Object, error) {
	o := &Object{File: File{Environment: annotations[AnnotationEnvironment], Name: name, Recipient: annotations[AnnotationRecipient], Type: kind}}
	if err := errors.Join(checkEnvironment(o.Environment), checkName(name)); err != nil {
		return nil, err
	}
	if _, err := ParseRecipient([]byte(o.Recipient)); err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	if s, ok := annotations[AnnotationIdentity]; ok {
		o.Identity = []byte(s)
	}
	if s, ok := annotations[AnnotationSOPS]; ok {
		o.SOPS = []byte(s)
		return o, nil
	}
	for key, b := range data {
		v, err := openEnvelope(key, b)
		if err != nil {
			return nil, err
		}
		o.Values = append(o.Values, v)
	}
	o.sort()
	return o, nil
}

// OpenObject opens all values, by key.
func (id *Identity) OpenObject(o *Object) ([]Entry, error) {
	if o.SOPS == nil {
		return id.OpenFile(&o.File)
	}
	s, ps := ParseSOPS(o.Environment, o.Name+".yaml", o.SOPS)
	if s == nil {
		return nil, ps
	}
	if o.Environment != id.environment {
		return nil, fmt.Errorf("open %s: the identity is that of %s", o.Path(), id.environment)
	}
	opened, err := s.Open(id.Age())
	return opened.Entries, err
}

// sopsEntry is a key of the Secret that a file of SOPS will be, with what changes when its value does.
type sopsEntry struct {
	Value
	line int
}

// sealedEntries are the keys, without an identity.
func (s *SOPS) sealedEntries() (all []sopsEntry) {
	from := []*tree{s.root}
	if s.manifest() {
		from = []*tree{s.root.get("data"), s.root.get("stringData")}
	}
	for _, t := range from {
		if t == nil || !t.isMap {
			continue
		}
		for i, key := range t.keys {
			all = append(all, sopsEntry{Value{Key: key, Age: []byte(t.kids[i].text)}, t.kids[i].line})
		}
	}
	return all
}

// kind is the type of the Secret, as far as it is not encrypted.
func (s *SOPS) kind() string {
	if t := s.root.get("type").leafText(); s.manifest() && checkType(t) == nil && !strings.HasPrefix(t, "ENC[") {
		return t
	}
	return defaultType
}

func (t *tree) leafText() string {
	if t == nil {
		return ""
	}
	return t.text
}

// NoIdentityError says that a node has not got the identity of an environment yet: other than values that do not open, it may come.
type NoIdentityError struct {
	Environment string
	Why         error
}

func (e *NoIdentityError) Error() string {
	return fmt.Sprintf("this node has no key of environment %s: %v", e.Environment, e.Why)
}

// Unwrap is why.
func (e *NoIdentityError) Unwrap() error { return e.Why }

// OpenIdentityOf opens an identity with the key of a node, and refuses one of another recipient.
func OpenIdentityOf(environment, recipient string, sealed []byte, node age.Identity) (*Identity, error) {
	id, err := OpenIdentity(environment, sealed, node)
	if err != nil {
		return nil, err
	}
	if id.Recipient() != recipient {
		return nil, fmt.Errorf("open identity of %s: is not that of the values' recipient %.12s...", environment, recipient)
	}
	return id, nil
}
