package forge

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options says which repository to speak of. Zero fields mean their defaults.
type Options struct {
	Kind  Kind   // required
	Base  string // required: address of the API, as in Place
	Path  string // required: "owner/name", on GitLab "group/subgroup/name"
	Plain bool   // allow http to a host that is not loopback, since the remote was given so
	Token string // "" reads public repositories and writes nothing
	// User is the login the token acts as. Default: the forge is asked. Installation tokens of GitHub Apps cannot
	// ask; for them it is the app's name followed by "[bot]".
	User   string
	HTTP   *http.Client     // default: one of its own, with the environment's proxies; redirects and cookies are ours in any case
	Now    func() time.Time // default time.Now
	Limits Limits
}

// Limits bounds what a forge may cost.
type Limits struct {
	Body    int64         // bytes of one answer, inflated; default 16 MiB
	Pages   int           // pages of one list, of up to 100 entries; default 50
	Lookups int           // pull requests one Pulls asks for by number; default 100
	Memory  int           // statuses, comments and deployments remembered; default 4096
	Request time.Duration // one request; default 20s
	Whole   time.Duration // one call with all its requests; default 2m
	Wait    time.Duration // longest wait a forge can ask for; default 1h, which is GitHub's window
	Settle  time.Duration // after a lost answer no comment is made anew for so long; default 30s
}

// WithDefaults returns a copy with zero fields filled in.
func (o Options) WithDefaults() Options {
	l := &o.Limits
	if l.Body == 0 {
		l.Body = 16 << 20
	}
	if l.Pages == 0 {
		l.Pages = 50
	}
	if l.Lookups == 0 {
		l.Lookups = 100
	}
	if l.Memory == 0 {
		l.Memory = 4096
	}
	if l.Request == 0 {
		l.Request = 20 * time.Second
	}
	if l.Whole == 0 {
		l.Whole = 2 * time.Minute
	}
	if l.Wait == 0 {
		l.Wait = time.Hour
	}
	if l.Settle == 0 {
		l.Settle = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Check joins every fault of o into one error, which does not contain the token.
func (o Options) Check() error {
	var errs []error
	switch o.Kind {
	case GitHub, GitLab, Gitea, Forgejo:
	default:
		errs = append(errs, errors.New("forge: Kind: expected github, gitlab, gitea or forgejo"))
	}
	if path, err := cleanPath(o.Path); err != nil || path != o.Path {
		errs = append(errs, errors.New("forge: Path: expected owner/name without slashes at its ends and without .git"))
	} else if err := checkPath(o.Kind, o.Path); err != nil {
		errs = append(errs, fmt.Errorf("forge: Path: %w", err))
	}
	if err := checkBase(o.Base, o.Plain); err != nil {
		errs = append(errs, err)
	}
	for i := range len(o.Token) {
		if o.Token[i] <= ' ' || o.Token[i] >= 0x7f {
			errs = append(errs, errors.New("forge: Token: expected printable ASCII without spaces"))
			break
		}
	}
	l := o.Limits
	if l.Body < 0 || min(l.Pages, l.Lookups, l.Memory) < 0 || min(l.Request, l.Whole, l.Wait, l.Settle) < 0 {
		errs = append(errs, errors.New("forge: Limits: expected none below 0"))
	}
	return errors.Join(errs...)
}

func checkBase(base string, plain bool) error {
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(base, "/"):
		return errors.New("forge: Base: expected an https address without user, query and slash at its end")
	case u.Scheme == "https", u.Scheme == "http" && (plain || loopback(u.Host)):
		return nil
	}
	return errors.New("forge: Base: expected https: http is for loopback, or for remotes given with http")
}
