package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What the launcher decides, a start a line: time, installed binary, what is started.
func TestFault_U4_Trials(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		trials trials
		starts []string // minute and binary
		want   string
	}{
		{"proven", trials{Proven: "a"}, []string{"0 a", "0 a", "0 a", "0 a", "0 a"}, "a a a a a"},
		{"three tries, then never again", trials{Proven: "a"}, []string{"0 b", "1 b", "2 b", "3 b", "99 b"}, "b? b? b? - -"},
		{"another one has its own", trials{Proven: "a"}, []string{"0 b", "0 b", "0 b", "0 b", "0 c", "0 c", "0 c", "0 c", "0 b"}, "b? b? b? - c? c? c? - b?"},
		{"the one before is put back", trials{Proven: "a"}, []string{"0 b", "0 b", "0 b", "0 b", "1 a", "1 a"}, "b? b? b? - a a"},
		{"now and then is no failure", trials{Proven: "a"}, []string{"0 b", "20 b", "40 b", "60 b"}, "b? b? b? b?"},
		{"a clock that was set back by years", trials{Proven: "a"}, []string{"9999999 b", "9999999 b", "0 b", "0 b", "0 b", "0 b"}, "b? b? b? b? b? -"},
		{"nothing is known", trials{}, []string{"0 a", "0 a", "0 a", "0 a"}, "a? a? a? -"},
	} {
		var got []string
		for _, start := range tt.starts {
			var minute int
			var binary string
			if _, err := fmt.Sscan(start, &minute, &binary); err != nil {
				t.Fatal(err)
			}
			onTrial, why := tt.trials.begin(binary, at.Add(time.Duration(minute)*time.Minute))
			switch {
			case why != "":
				got = append(got, "-")
			case onTrial:
				got = append(got, binary+"?")
			default:
				got = append(got, binary)
			}
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, text, tt.want)
		}
	}
}
