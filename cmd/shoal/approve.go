package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
	"github.com/shoal-dev/shoal/internal/wallclock"
)

const approveHelp = `Says with your key that a commit may go to an environment whose gates ask for approvals. To be run in a clone of the repository.

It makes an annotated tag, signed as git signs for you (user.signingkey, gpg.format ssh or openpgp), and pushes it to the remote:

  shoal/approve/<environment>/<commit>/<you>

Any git makes the same ("git tag -s") and checks it ("git verify-tag"). It counts if keys/ of the tree that is active in the environment lists your key and
lets you approve there, for as long as it does, and if you neither wrote nor promote what comes in. COMMIT is HEAD unless given. Who you are is
whom keys/ gives your signing key to.

--withdraw takes it back: the tag is deleted on the remote and here.`

type approveOptions struct {
	reason, remote, as string
	withdraw           bool
}

func newApprove() *cobra.Command {
	var o approveOptions
	cmd := &cobra.Command{
		Use: "approve ENVIRONMENT [COMMIT]", Short: "Sign that a commit may go to an environment", Long: approveHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{errors.New("expected an environment, and a commit if it is not HEAD")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.withdraw && o.reason != "" {
				return usageError{errors.New("--reason is for an approval, not for --withdraw")}
			}
			commit := "HEAD"
			if len(args) == 2 {
				commit = args[1]
			}
			return approve(cmd.Context(), args[0], commit, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.reason, "reason", "", "why, as the tag's message")
	f.StringVar(&o.remote, "remote", "", "remote to push to; default: that of the current branch, or origin")
	f.StringVar(&o.as, "as", "", "your name in keys/, if it does not follow from your key")
	f.BoolVar(&o.withdraw, "withdraw", false, "take it back")
	return cmd
}

func approve(ctx context.Context, environment, revision string, o approveOptions, w, progress io.Writer) error {
	c, err := openClone(ctx, progress)
	if err != nil {
		return err
	}
	if err := c.declares(ctx, environment); err != nil {
		return err
	}
	commit, err := c.commit(ctx, revision)
	if err != nil {
		return err
	}
	keys, err := c.keys(ctx, commit)
	if err != nil {
		return err
	}
	if o.as == "" {
		if o.as, err = c.principal(ctx, keys); err != nil {
			return err
		}
	} else if err := trust.CheckPrincipal(o.as); err != nil {
		return usageError{fmt.Errorf("--as: %w", err)}
	}
	if o.remote == "" {
		o.remote = c.remote(ctx)
	}
	ref := trust.ApprovalRef(environment, commit, o.as)
	subject, err := c.git(ctx, "log", "-1", "--format=%s", string(commit))
	if err != nil {
		return err
	}
	if o.withdraw {
		if err := c.push(ctx, o.remote, ":"+ref); err != nil {
			return err
		}
		_, _ = c.git(ctx, "update-ref", "-d", ref) // it may have been made elsewhere
		fmt.Fprintf(w, "withdrew the approval of %s %q for %s by %s: %s has no such tag any more\n", commit.Short(), subject, environment, o.as, o.remote)
		return nil
	}
	a, err := c.sign(ctx, ref, commit, keys, o.reason, environment)
	if err != nil {
		return err
	}
	if err := c.push(ctx, o.remote, "+"+ref+":"+ref); err != nil {
		return fmt.Errorf("%w\nthe tag is made and not pushed: say it again when that is mended", err)
	}
	fmt.Fprintf(w, "approved %s %q for %s as %s%s\n", commit.Short(), subject, environment, a.Principal, inGroups(a.Groups))
	fmt.Fprintf(w, "  tag %s, signed by key %s, is on %s\n", strings.TrimPrefix(ref, "refs/tags/"), a.Key, o.remote)
	return nil
}

func inGroups(groups []string) string {
	if len(groups) == 0 {
		return ""
	}
	return ", for " + strings.Join(groups, " and ")
}

// sign makes the tag, unless there is one already that counts, and sees that it counts by keys. One that does not is not left behind.
func (c *clone) sign(ctx context.Context, ref string, commit source.ID, keys *trust.Keys, reason, environment string) (a trust.Approval, err error) {
	name := strings.TrimPrefix(ref, "refs/tags/")
	read := func() (trust.Approval, error) {
		raw, err := c.gitRaw(ctx, "cat-file", "tag", ref)
		if err != nil {
			return trust.Approval{}, err
		}
		return trust.ApprovalOf(ref, raw, keys, wallclock.Now())
	}
	if reason == "" {
		if a, err := read(); err == nil {
			return a, nil
		}
		reason = "Approved for " + environment
	}
	if _, err := c.git(ctx, "tag", "-s", "-f", "-m", reason, name, string(commit)); err != nil {
		return a, fmt.Errorf("%w\n%s", err, noKeyHint)
	}
	if a, err = read(); err != nil {
		_, _ = c.git(ctx, "tag", "-d", name)
		return a, fmt.Errorf("it would not count by keys/ of %s: %w", commit.Short(), err)
	}
	return a, nil
}

// declares sees that shoal.cue has an environment of this name: a tag for another would be of no use.
func (c *clone) declares(ctx context.Context, environment string) error {
	l, err := openLocal(c.dir)
	if err != nil {
		return err
	}
	defer l.close()
	tree, err := l.tree(ctx)
	if err != nil {
		return err
	}
	_, err = l.environment(ctx, tree, environment)
	if problems, ok := errors.AsType[render.Problems](err); ok {
		return fmt.Errorf("which environments there are cannot be read: %w", problems)
	}
	return err
}
