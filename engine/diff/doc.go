// Package diff tells what a plan does to the objects of an environment, and names it by a digest.
//
// A report puts first what people regret not having seen: what becomes reachable, what is restarted, what moves and what
// goes away; then the rest; and of what does not change only how much there is. It is made once and printed as text, as
// JSON, and as Markdown for one comment on a pull request.
//
// The digest covers the changes of objects between two renders and nothing else: no time, no node, no number of pods that
// a rule of scaling chose. What was planned on a branch and what was done after the merge have the same digest, or
// something else was done.
//
// Values of Secrets are never in a report. What strangers wrote is printed as data: no control characters, no Markdown, no
// mention of people.
package diff
