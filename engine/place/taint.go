package place

import (
	"cmp"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ParseTaint reads "key=value:Effect" or "key:Effect", as kubectl writes it.
func ParseTaint(s string) (Taint, error) {
	pair, effect, _ := strings.Cut(s, ":")
	key, value, _ := strings.Cut(pair, "=")
	t := Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
	if err := t.Check(); err != nil {
		return Taint{}, fmt.Errorf("taint %q: %w; expected key=value:Effect, such as dedicated=db:NoSchedule", s, err)
	}
	return t, nil
}

// Check says what is wrong with a taint.
func (t Taint) Check() error {
	if why := validation.IsQualifiedName(t.Key); len(why) > 0 {
		return fmt.Errorf("key %.320q: %s", t.Key, why[0])
	}
	if why := validation.IsValidLabelValue(t.Value); len(why) > 0 {
		return fmt.Errorf("value %.70q: %s", t.Value, why[0])
	}
	switch t.Effect {
	case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		return nil
	}
	return fmt.Errorf("effect %.40q: want NoSchedule, PreferNoSchedule or NoExecute", t.Effect)
}

// Compare orders taints by key and effect, of which a node has each pair once.
func (t Taint) Compare(o Taint) int {
	return cmp.Or(cmp.Compare(t.Key, o.Key), cmp.Compare(t.Effect, o.Effect))
}
