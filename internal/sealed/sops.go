package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// SOPS is a file that SOPS has encrypted with age, not yet opened. SOPS encrypts each value under a key of the file, with the path of
// its keys as additional data, and that key for each age recipient. Its MAC goes over all values in their order.
type SOPS struct {
	Environment string
	Name        string // of the Secret: the file's name less its ending

	file       string
	root       *tree // without the metadata
	recipients []sopsRecipient
	mac        string
	modified   time.Time
	macOnly    bool // the MAC goes over encrypted values only
	encrypted  func(keys []string) bool
}

type sopsRecipient struct{ recipient, enc string }

const sopsKey = "sops"

// IsSOPS says whether data looks like a YAML or JSON file of SOPS: a key "sops" at its top.
func IsSOPS(data []byte) bool {
	t, _, err := sopsTree(data)
	return err == nil && t.get(sopsKey) != nil
}

// sopsTree reads JSON where the text begins like it; YAML would refuse its tabs.
func sopsTree(data []byte) (*tree, int, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return jsonTree(data)
	}
	return yamlTree(data)
}

// ParseSOPS reads a file of SOPS strictly; file is its name with .yaml or .json. With problems it is nil.
func ParseSOPS(environment, file string, data []byte) (*SOPS, Problems) {
	name := strings.TrimSuffix(strings.TrimSuffix(file, ".yaml"), ".json")
	s := &SOPS{Environment: environment, Name: name, file: path(environment, file)}
	fail := func(line int, format string, a ...any) (*SOPS, Problems) {
		var ps Problems
		ps.add(s.file, line, format, a...)
		return nil, ps
	}
	for _, err := range []error{checkEnvironment(environment), checkName(name)} {
		if err != nil {
			return fail(0, "%v", err)
		}
	}
	if len(data) > MaxFile {
		return fail(0, "%d bytes long; at most %d", len(data), MaxFile)
	}
	root, line, err := sopsTree(data)
	if err != nil {
		return fail(line, "%v", err)
	}
	meta := root.get(sopsKey)
	if !root.isMap || meta == nil || !meta.isMap {
		return fail(0, "is not encrypted by SOPS: it has no key sops")
	}
	if err := s.metadata(meta); err != nil {
		return fail(meta.line, "sops: %v", err)
	}
	s.root = &tree{line: root.line, isMap: true}
	for i, k := range root.keys {
		if k != sopsKey {
			s.root.keys, s.root.kids = append(s.root.keys, k), append(s.root.kids, root.kids[i])
		}
	}
	return s, nil
}

// metadata reads what is at the key sops.
func (s *SOPS) metadata(m *tree) error {
	from := m
	if groups := m.get("key_groups"); groups != nil && len(groups.kids) > 0 {
		if len(groups.kids) != 1 || m.get("age") != nil && len(m.get("age").kids) > 0 {
			return errors.New("several key groups (Shamir) are not supported")
		}
		from = groups.kids[0]
	}
	keys := from.get("age")
	if keys == nil || len(keys.kids) == 0 {
		return errors.New("no age recipient; only age is supported")
	}
	if len(keys.kids) > MaxNodes {
		return fmt.Errorf("more than %d recipients", MaxNodes)
	}
	for _, k := range keys.kids {
		s.recipients = append(s.recipients, sopsRecipient{k.str("recipient"), k.str("enc")})
	}
	s.mac = m.str("mac")
	if _, err := parseSOPSValue(s.mac); err != nil {
		return errors.New("mac is missing or not one of SOPS")
	}
	var err error
	if s.modified, err = time.Parse(time.RFC3339, m.str("lastmodified")); err != nil {
		return errors.New("lastmodified: expected a quoted time such as 2024-01-31T12:00:00Z")
	}
	if v := m.get("mac_only_encrypted"); v != nil {
		s.macOnly = v.leaf == typeBool && v.text == "true"
	}
	return s.rule(m)
}

// rule finds which values are encrypted. SOPS allows one rule a file.
func (s *SOPS) rule(m *tree) error {
	var set []string
	for _, name := range []string{"unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex", "unencrypted_comment_regex", "encrypted_comment_regex"} {
		if m.str(name) != "" {
			set = append(set, name)
		}
	}
	if len(set) == 0 {
		s.encrypted = func(keys []string) bool {
			return !slices.ContainsFunc(keys, func(k string) bool { return strings.HasSuffix(k, "_unencrypted") })
		}
		return nil
	}
	if len(set) > 1 {
		return fmt.Errorf("%s and %s exclude each other", set[0], set[1])
	}
	text := m.str(set[0])
	if len(text) > maxPattern {
		return fmt.Errorf("%s is too long", set[0])
	}
	var fits func(string) bool
	switch set[0] {
	case "unencrypted_suffix", "encrypted_suffix":
		fits = func(k string) bool { return strings.HasSuffix(k, text) }
	case "unencrypted_regex", "encrypted_regex":
		re, err := regexp.Compile(text)
		if err != nil {
			return fmt.Errorf("%s is no regular expression", set[0])
		}
		fits = re.MatchString
	default:
		return fmt.Errorf("%s is not supported", set[0])
	}
	unless := strings.HasPrefix(set[0], "unencrypted")
	s.encrypted = func(keys []string) bool { return slices.ContainsFunc(keys, fits) != unless }
	return nil
}

// walk visits all leaves in order with the keys above them; places in lists are not part of these.
func walk(t *tree, keys []string, visit func(keys []string, leaf *tree) error) error {
	for i, kid := range t.kids {
		at := keys
		if t.isMap {
			at = append(slices.Clip(keys), t.keys[i])
		}
		if err := walk(kid, at, visit); err != nil {
			return err
		}
	}
	if t.isMap || t.isList || t.leaf == typeNull {
		return nil
	}
	return visit(keys, t)
}

// Check looks at the file without an identity: its form, that what is to be encrypted is, that nothing secret is plain, and that recipient,
// if it is not "", is among those it is for.
func (s *SOPS) Check(recipient string) Problems {
	var ps Problems
	for _, r := range s.recipients {
		if _, err := io.Copy(io.Discard, armor.NewReader(strings.NewReader(r.enc))); err != nil || r.enc == "" {
			ps.add(s.file, 0, "sops: the key for an age recipient is not armored as age does it")
		}
	}
	if recipient != "" && !slices.ContainsFunc(s.recipients, func(r sopsRecipient) bool { return r.recipient == recipient }) {
		ps.add(s.file, 0, "is not encrypted for %s: run sops updatekeys with its recipient", s.Environment)
	}
	leaves := 0
	_ = walk(s.root, nil, func(keys []string, leaf *tree) error {
		leaves++
		secret := !s.manifest() || keys[0] == "data" || keys[0] == "stringData"
		switch at := strings.Join(keys, "."); {
		case leaves > maxLeaves:
			ps.add(s.file, leaf.line, "%v", errTooMany)
			return errTooMany
		case !s.encrypted(keys):
			if secret {
				ps.add(s.file, leaf.line, "%q is not encrypted", short(at))
			}
		case leaf.leaf == typeString && leaf.text == "": // SOPS leaves empty strings as they are
		case leaf.leaf != typeString:
			ps.add(s.file, leaf.line, "%q is not encrypted", short(at))
		default:
			if _, err := parseSOPSValue(leaf.text); err != nil {
				ps.add(s.file, leaf.line, "%q: %v", short(at), err)
			}
		}
		return nil
	})
	return ps.sorted()
}

// manifest says whether the file has the form of a Kubernetes Secret, rather than that of a flat map.
func (s *SOPS) manifest() bool { return s.root.get("kind") != nil && s.root.get("apiVersion") != nil }

// Version changes when anything that is encrypted does. SOPS keeps the ciphertext of what did not change.
func (s *SOPS) Version() string {
	h := sha256.New()
	_ = walk(s.root, nil, func(keys []string, leaf *tree) error {
		fmt.Fprintf(h, "%q %s %q\n", keys, leaf.leaf, leaf.text)
		return nil
	})
	return "sops:" + hex.EncodeToString(h.Sum(nil)[:16])
}

// Opened is a Secret that was read from a file of SOPS.
type Opened struct {
	Type    string // of the Kubernetes Secret; Opaque unless said otherwise
	Entries []Entry
}

// Open decrypts the file, holds it against its MAC, and makes a Secret of it: of a manifest its data and stringData, of any other file the
// values at its top.
func (s *SOPS) Open(ids ...age.Identity) (Opened, error) {
	key, err := s.dataKey(ids)
	if err != nil {
		return Opened{}, fmt.Errorf("open %s: %w", s.file, err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return Opened{}, fmt.Errorf("open %s: the key of the file has a length that SOPS does not use", s.file)
	}
	mac := sha512.New()
	if s.macOnly {
		d := sha256.Sum256([]byte("sops")) // so that the two kinds of MACs never agree
		mac.Write(d[:])
	}
	plain := map[*tree]leafValue{}
	leaves, total := 0, 0
	err = walk(s.root, nil, func(keys []string, leaf *tree) error {
		if leaves++; leaves > maxLeaves {
			return errTooMany
		}
		v := leafValue{leaf.leaf, []byte(leaf.text)}
		encrypted := s.encrypted(keys)
		if encrypted && (leaf.leaf != typeString || leaf.text != "") {
			var err error
			if v, err = openSOPSValue(block, leaf, strings.Join(keys, ":")+":"); err != nil {
				return fmt.Errorf("%q: %w", short(strings.Join(keys, ".")), err)
			}
		}
		if encrypted || !s.macOnly {
			mac.Write(v.forMAC())
		}
		if total += len(v.text); total > 2*MaxTotal {
			return fmt.Errorf("its values have more than %d bytes together", 2*MaxTotal)
		}
		plain[leaf] = v
		return nil
	})
	if err != nil {
		return Opened{}, fmt.Errorf("open %s: %w", s.file, err)
	}
	want, err := openSOPSValue(block, &tree{leaf: typeString, text: s.mac}, s.modified.Format(time.RFC3339))
	if err != nil {
		return Opened{}, fmt.Errorf("open %s: its MAC does not open", s.file)
	}
	if subtle.ConstantTimeCompare([]byte(strings.ToUpper(hex.EncodeToString(mac.Sum(nil)))), want.text) != 1 {
		return Opened{}, fmt.Errorf("open %s: its MAC is not that of its values: something was changed without SOPS", s.file)
	}
	out, err := s.secret(plain)
	if err != nil {
		return Opened{}, fmt.Errorf("open %s: %w", s.file, err)
	}
	return out, nil
}

// dataKey is the key of the file, from the first recipient that an identity opens.
func (s *SOPS) dataKey(ids []age.Identity) ([]byte, error) {
	if len(ids) == 0 {
		return nil, errors.New("no identity")
	}
	why := "is sealed for somebody else"
	for _, r := range s.recipients {
		in, err := age.Decrypt(armor.NewReader(strings.NewReader(r.enc)), ids...)
		if err != nil {
			if w := ageError(err); w == "is damaged" {
				why = "the key of the file " + w
			}
			continue
		}
		key, err := io.ReadAll(io.LimitReader(in, 64))
		if err != nil || len(key) != 32 {
			return nil, errors.New("the key of the file is damaged")
		}
		return key, nil
	}
	return nil, errors.New(why)
}

// secret takes what Kubernetes wants out of the opened tree.
func (s *SOPS) secret(plain map[*tree]leafValue) (Opened, error) {
	out := Opened{Type: defaultType}
	total := 0
	add := func(t *tree, decode bool) error {
		if t == nil || t.leaf == typeNull {
			return nil
		}
		if !t.isMap {
			return errors.New("data and stringData: expected mappings")
		}
		for i, key := range t.keys {
			v, leaf := plain[t.kids[i]]
			if err := checkKey(key); err != nil {
				return err
			}
			if !leaf {
				return fmt.Errorf("%s: expected a single value: a Secret has no lists, mappings or nulls in it", key)
			}
			b := v.text
			if decode {
				var err error
				if b, err = base64.StdEncoding.DecodeString(string(v.text)); err != nil {
					return fmt.Errorf("data.%s: is not base64", key)
				}
			}
			if i := slices.IndexFunc(out.Entries, func(e Entry) bool { return e.Key == key }); i >= 0 {
				out.Entries = slices.Delete(out.Entries, i, i+1) // stringData wins, as in Kubernetes
			}
			out.Entries = append(out.Entries, Entry{key, NewPlain(b)})
			total += len(b)
		}
		return nil
	}
	value := func(t *tree) string {
		if t == nil {
			return ""
		}
		return string(plain[t].text)
	}
	var err error
	if !s.manifest() {
		err = add(s.root, false)
	} else {
		switch name := value(s.root.get("metadata").get("name")); {
		case value(s.root.get("kind")) != "Secret" || value(s.root.get("apiVersion")) != "v1":
			return Opened{}, errors.New("is a manifest of something else than a Secret (v1)")
		case name != "" && name != s.Name:
			return Opened{}, fmt.Errorf("metadata.name is not %s, the file's name", s.Name)
		}
		if t := value(s.root.get("type")); t != "" {
			if checkType(t) != nil {
				return Opened{}, checkType(t)
			}
			out.Type = t
		}
		if err = add(s.root.get("data"), true); err == nil {
			err = add(s.root.get("stringData"), false)
		}
	}
	switch {
	case err != nil:
		return Opened{}, err
	case len(out.Entries) > MaxValues:
		return Opened{}, fmt.Errorf("more than %d values", MaxValues)
	case total > MaxTotal:
		return Opened{}, fmt.Errorf("its values have more than %d bytes together", MaxTotal)
	}
	slices.SortFunc(out.Entries, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// leafValue is a leaf that was opened, as text.
type leafValue struct {
	leaf leafType
	text []byte
}

// forMAC is what SOPS' MAC takes of the value: bools with a capital.
func (v leafValue) forMAC() []byte {
	if v.leaf == typeBool {
		return []byte(strings.ToUpper(string(v.text[:1])) + string(v.text[1:]))
	}
	return v.text
}

// sopsValue is ENC[AES256_GCM,data:...,iv:...,tag:...,type:...].
type sopsValue struct {
	data, iv, tag []byte
	leaf          string
}

var errSOPSValue = errors.New("is not encrypted, or not as SOPS does it")

func parseSOPSValue(s string) (sopsValue, error) {
	var v sopsValue
	rest, ok := strings.CutPrefix(s, "ENC[AES256_GCM,")
	rest, ok2 := strings.CutSuffix(rest, "]")
	parts := strings.Split(rest, ",")
	if !ok || !ok2 || len(parts) != 4 {
		return v, errSOPSValue
	}
	for i, field := range []struct {
		name string
		to   *[]byte
	}{{"data:", &v.data}, {"iv:", &v.iv}, {"tag:", &v.tag}} {
		text, ok := strings.CutPrefix(parts[i], field.name)
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if !ok || err != nil {
			return v, errSOPSValue
		}
		*field.to = b
	}
	if v.leaf, ok = strings.CutPrefix(parts[3], "type:"); !ok || len(v.iv) < 12 || len(v.iv) > 64 || len(v.tag) != 16 || len(v.leaf) > 16 {
		return v, errSOPSValue
	}
	return v, nil
}

// openSOPSValue decrypts a leaf; with is the additional data.
func openSOPSValue(block cipher.Block, leaf *tree, with string) (leafValue, error) {
	if leaf.leaf != typeString {
		return leafValue{}, errSOPSValue
	}
	v, err := parseSOPSValue(leaf.text)
	if err != nil {
		return leafValue{}, err
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(v.iv))
	if err != nil {
		return leafValue{}, errSOPSValue
	}
	text, err := gcm.Open(nil, v.iv, slices.Concat(v.data, v.tag), []byte(with))
	if err != nil {
		return leafValue{}, errors.New("does not open: it was changed, or belongs elsewhere")
	}
	out := leafValue{leafType(v.leaf), text}
	bad := fmt.Errorf("is no %s inside", v.leaf)
	switch out.leaf {
	case typeString, typeBytes:
	case typeInt:
		i, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return leafValue{}, bad
		}
		out.text = strconv.AppendInt(nil, i, 10)
	case typeFloat:
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil {
			return leafValue{}, bad
		}
		out.text = strconv.AppendFloat(nil, f, 'f', -1, 64)
	case typeBool:
		b, err := strconv.ParseBool(string(text))
		if err != nil {
			return leafValue{}, bad
		}
		out.text = strconv.AppendBool(nil, b)
	default:
		return leafValue{}, errors.New("is of a type that is not understood")
	}
	return out, nil
}
