//go:build race

package renderer

const raceEnabled = true
