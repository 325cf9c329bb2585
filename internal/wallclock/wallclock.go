// Package wallclock is where the time of day is read that decides anything: ring time, the dates of certificates and tokens,
// when a container may start again. It is time.Now, but in a binary made with the tag shoal_clock, by which tests set the
// clock of one machine's agent.
//
// What is only measured, as how long something took, is measured by time.Now, whose difference does not jump.
package wallclock
