//go:build !race

package renderer

const raceEnabled = false
