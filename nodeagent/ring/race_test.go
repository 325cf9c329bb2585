//go:build race

package ring

const underRace = true
