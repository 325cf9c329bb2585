package volumes

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

// fileSet is the files of one written volume: relative clean paths to contents.
type fileSet map[string]file

type file struct {
	data []byte
	mode int32 // permission bits
}

const defaultMode = int32(0o644)

// payload gathers the files of a ConfigMap, Secret, downwardAPI or projected volume.
func payload(pod *plan.Pod, vol *corev1.Volume) (fileSet, error) {
	set := fileSet{}
	switch {
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		return set, set.configMap(pod, s.Name, s.Items, s.Optional, or(s.DefaultMode, defaultMode))
	case vol.Secret != nil:
		s := vol.Secret
		return set, set.secret(pod, s.SecretName, s.Items, s.Optional, or(s.DefaultMode, defaultMode))
	case vol.DownwardAPI != nil:
		return set, set.downward(pod, vol.DownwardAPI.Items, or(vol.DownwardAPI.DefaultMode, defaultMode))
	}
	mode := or(vol.Projected.DefaultMode, defaultMode)
	for i, s := range vol.Projected.Sources {
		var err error
		switch {
		case s.ConfigMap != nil:
			err = set.configMap(pod, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, mode)
		case s.Secret != nil:
			err = set.secret(pod, s.Secret.Name, s.Secret.Items, s.Secret.Optional, mode)
		case s.DownwardAPI != nil:
			err = set.downward(pod, s.DownwardAPI.Items, mode)
		default:
			err = errors.New("this kind of source is not supported; expected one of configMap, downwardAPI, secret")
		}
		if err != nil {
			return nil, fmt.Errorf("source %d: %w", i, err)
		}
	}
	return set, nil
}

func (s fileSet) configMap(pod *plan.Pod, name string, items []corev1.KeyToPath, optional *bool, mode int32) error {
	m := pod.ConfigMaps[name]
	if m == nil {
		if or(optional, false) {
			return nil
		}
		return fmt.Errorf("there is no ConfigMap %s/%s", pod.Namespace, name)
	}
	data := make(map[string][]byte, len(m.Data)+len(m.BinaryData))
	for k, v := range m.Data {
		data[k] = []byte(v)
	}
	maps.Copy(data, m.BinaryData)
	return s.keys("ConfigMap "+pod.Namespace+"/"+name, data, items, optional, mode)
}

func (s fileSet) secret(pod *plan.Pod, name string, items []corev1.KeyToPath, optional *bool, mode int32) error {
	m := pod.Secrets[name]
	if m == nil {
		if or(optional, false) {
			return nil
		}
		return fmt.Errorf("there is no Secret %s/%s", pod.Namespace, name)
	}
	data := make(map[string][]byte, len(m.Data)+len(m.StringData))
	maps.Copy(data, m.Data)
	for k, v := range m.StringData { // stringData wins over data where both have a key
		data[k] = []byte(v)
	}
	return s.keys("Secret "+pod.Namespace+"/"+name, data, items, optional, mode)
}

// keys adds all keys under their own names, or the items that are listed.
func (s fileSet) keys(of string, data map[string][]byte, items []corev1.KeyToPath, optional *bool, mode int32) error {
	if len(items) == 0 {
		for k, v := range data {
			if err := s.add(k, v, mode); err != nil {
				return fmt.Errorf("%s: %w", of, err)
			}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if or(optional, false) {
				continue
			}
			return fmt.Errorf("%s has no key %q", of, item.Key)
		}
		if err := s.add(item.Path, v, or(item.Mode, mode)); err != nil {
			return fmt.Errorf("%s: %w", of, err)
		}
	}
	return nil
}

// add puts one file in, refusing paths that lead outside or into the names that updates need.
func (s fileSet) add(at string, data []byte, mode int32) error {
	clean := path.Clean(at)
	switch {
	case at == "" || path.IsAbs(at) || clean == "." || strings.ContainsRune(at, 0):
		return fmt.Errorf("path %q must be relative and name a file", at)
	case slices.Contains(strings.Split(at, "/"), ".."):
		return fmt.Errorf("path %q must not contain \"..\"", at)
	case strings.HasPrefix(clean, ".."):
		return fmt.Errorf("path %q must not start with \"..\"", at)
	case len(clean) > 4096 || slices.ContainsFunc(strings.Split(clean, "/"), func(p string) bool { return len(p) > 255 }):
		return fmt.Errorf("path %q is too long", at)
	}
	for up := path.Dir(clean); up != "."; up = path.Dir(up) {
		if _, ok := s[up]; ok {
			return fmt.Errorf("path %q: %q is a file", at, up)
		}
	}
	for other := range s {
		if strings.HasPrefix(other, clean+"/") {
			return fmt.Errorf("path %q: it is the directory of %q", at, other)
		}
	}
	s[clean] = file{data: data, mode: mode & 0o777}
	return nil
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
