package kube

import (
	"encoding/json"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// resource.ParseQuantity reckons with every digit that an exponent stands for: "1e-99999999", ten bytes, keeps it busy
// for minutes, and so would some thousand digits written out. No real amount needs either.
const (
	maxQuantity = 64 // characters
	maxExponent = 3  // digits of it: three are already too many
)

var quantityType = reflect.TypeFor[resource.Quantity]()

// absurd says whether a quantity must not be shown to ParseQuantity.
func absurd(quantity string) bool {
	if len(quantity) > maxQuantity {
		return true
	}
	_, exp, found := strings.Cut(strings.ToLower(quantity), "e")
	return found && len(strings.TrimLeft(exp, "+-")) >= maxExponent
}

// absurdQuantities are the faults of an object's quantities that must not be parsed; b is decoded into no type that
// would parse them. They are looked for only when something in b looks like one.
func absurdQuantities(b []byte, like Object) []Fault {
	if !suspicious(b) {
		return nil
	}
	var out []Fault
	for _, f := range mistakes(b, like) {
		if f.Text == absurdText {
			out = append(out, f)
		}
	}
	return out
}

const absurdText = "Invalid value: a quantity must have at most 64 characters, and at most 2 digits in its exponent"

// suspicious says whether b has a number with a long exponent or very many digits in it, anywhere.
func suspicious(b []byte) bool {
	run := 0 // digits and points up to here
	for i, c := range b {
		switch {
		case '0' <= c && c <= '9' || c == '.':
			if run++; run > maxQuantity/2 {
				return true
			}
			continue
		case (c == 'e' || c == 'E') && run > 0:
			rest := b[i+1:]
			if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') {
				rest = rest[1:]
			}
			digits := 0
			for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
				digits++
			}
			if digits >= maxExponent {
				return true
			}
		}
		run = 0
	}
	return false
}

// quantityOf returns the text of a quantity in JSON, which may be a string or a number.
func quantityOf(v any) string {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v)
	case json.Number:
		return v.String()
	}
	return ""
}
