package promote

import (
	"fmt"
	"slices"
)

// run is what an environment ran of what comes in. The one that it comes from is asked for the commit; others have commits
// of their own for the same tree. Of several runs the last counts.
func (j *judge) run(environment string) (Run, bool) {
	var best Run
	found := false
	for _, r := range j.facts.Runs {
		if r.Environment != environment || r.Since > j.now {
			continue
		}
		is := r.Tree == j.facts.Of.Tree
		if environment == j.ask.From {
			is = r.Commit == j.ask.Source
		}
		if is && (!found || r.Since > best.Since || r.Since == best.Since && r.Commit > best.Commit) {
			best, found = r, true
		}
	}
	return best, found && (j.ask.Act == Promotion)
}

// sources asks where the commit ran: soak, health, Jobs and checks, in each environment that this one comes after.
func (j *judge) sources() {
	g := j.policy.Gates
	for _, env := range j.policy.After {
		run, ran := j.run(env)
		ask := func(name string, answer func(Run) Gate) {
			switch {
			case j.ask.Act == Hotfix:
				j.tell(Gate{
					Name: name, Environment: env, State: Refused, Turn: "author",
					Text: "a hotfix has not run there; expected " + name + " among the gates it waives, or a promotion",
				})
			case !ran:
				j.tell(Gate{Name: name, Environment: env, State: Waiting, Text: "it has not run there", Turn: env})
			default:
				gate := answer(run)
				gate.Name, gate.Environment = name, env
				j.tell(gate)
			}
		}
		if g.Soak > 0 {
			ask(GateSoak, j.soak)
		}
		if g.Health {
			ask(GateHealth, j.health)
		}
		for _, job := range g.Verify {
			name := GateVerify + ":" + job
			ask(name, func(r Run) Gate { return j.evidence(name, r, 0, 0) })
		}
		for _, c := range sortedKeys(g.Checks) {
			check, name := g.Checks[c], GateChecks+":"+c
			if len(check.On) == 0 || slices.Contains(check.On, env) {
				ask(name, func(r Run) Gate { return j.evidence(name, r, check.Counts(), check.Every()) })
			}
		}
		if g.Soak == 0 && !g.Health && j.ask.Act == Promotion && !ran {
			// A promotion is of what every environment before this one has run, whatever the gates.
			j.tell(Gate{Name: GateSoak, Environment: env, State: Waiting, Text: "it has not run there", Turn: env})
		}
	}
}

func (j *judge) soak(r Run) Gate {
	want := j.policy.Gates.Soak.Millis()
	end := j.now
	if r.Until != 0 {
		end = min(end, r.Until)
	}
	on := " on " + short(string(r.Render))
	switch had := end - r.Healthy; {
	case r.Healthy == 0 && r.Until != 0:
		return Gate{State: Refused, Turn: "author", Text: "it was not healthy when " + r.Environment + " went on to another commit"}
	case r.Healthy == 0:
		return Gate{State: Waiting, Turn: r.Environment, Text: "not healthy" + because(r.Ill) + "; " + j.policy.Gates.Soak.String() + " are wanted" + on}
	case had >= want:
		return Gate{State: Open, Text: elapsed(had) + on}
	case r.Until != 0:
		return Gate{State: Refused, Turn: "author", Text: fmt.Sprintf("%s%s until another commit took its place; %s are wanted", elapsed(had), on, j.policy.Gates.Soak)}
	default:
		return Gate{State: Waiting, Turn: turnTime, Until: r.Healthy + want, Text: fmt.Sprintf("%s of %s%s", elapsed(had), j.policy.Gates.Soak, on)}
	}
}

func (j *judge) health(r Run) Gate {
	switch {
	case r.Healthy != 0 && r.Healthy <= j.now && r.Until == 0:
		return Gate{State: Open, Text: "healthy since " + stamp(r.Healthy)}
	case r.Healthy != 0:
		return Gate{State: Open, Text: "it was, until another commit took its place"}
	case r.Until != 0:
		return Gate{State: Refused, Turn: "author", Text: "it was not when another commit took its place" + because(r.Ill)}
	}
	return Gate{State: Waiting, Turn: r.Environment, Text: "not healthy" + because(r.Ill)}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + Line(why, 200)
}

// evidence is the latest answer to a check or Job on a render. It counts for counts ms, and is asked again after every ms;
// 0: once, for good.
func (j *judge) evidence(gate string, r Run, counts, every int64) Gate {
	var last Evidence
	found := false
	for _, e := range j.facts.Evidence {
		if e.Gate != gate || e.Environment != r.Environment || e.Render != r.Render || e.Since > j.now {
			continue
		}
		newer := e.Since > last.Since
		if e.Since == last.Since { // at the same time the bad news counts, so that order does not
			newer = last.OK && !e.OK || last.OK == e.OK && e.Text < last.Text
		}
		if !found || newer {
			last, found = e, true
		}
	}
	if !found {
		return Gate{State: Waiting, Turn: r.Environment, Text: "no answer yet on " + short(string(r.Render))}
	}
	expires := last.Expires
	if counts > 0 && (expires == 0 || last.Since+counts < expires) {
		expires = last.Since + counts
	}
	text := Line(last.Text, 300)
	if text == "" {
		text = map[bool]string{true: "succeeded", false: "failed"}[last.OK]
	}
	text += " at " + stamp(last.Since) + " on " + short(string(r.Render))
	if last.Signer != "" {
		text += ", says " + Line(last.Signer, 100)
	}
	switch {
	case expires != 0 && expires <= j.now:
		return Gate{State: Waiting, Turn: r.Environment, Text: "the last answer is too old: " + text}
	case last.OK:
		return Gate{State: Open, Text: text, Changes: expires}
	}
	g := Gate{State: Refused, Turn: r.Environment, Text: text, Changes: expires}
	if again := last.Since + every; every > 0 && again > j.now {
		g.Changes = again // it is asked again, though nobody needs to wait for that
	}
	return g
}
