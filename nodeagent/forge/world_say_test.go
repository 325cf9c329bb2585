package forge

import (
	"encoding/json"
	"strconv"
	"time"
)

// What a world says, in the words of its kind. Fields that a client has no use for are there in part, so that
// decoding sees them.

func (w *world) user(login string) any {
	u := w.users[login]
	if u == nil {
		return nil
	}
	if w.kind == GitLab {
		return obj{"id": u.id, "username": u.login, "name": "N", "state": "active", "avatar_url": nil}
	}
	o := obj{"id": u.id, "login": u.login, "avatar_url": "https://x.example/a"}
	if w.kind == GitHub {
		o["type"], o["node_id"] = "User", "MDQ6"
		if u.bot {
			o["type"] = "Bot"
		}
	}
	return o
}

func (w *world) pull(p *wPull) any {
	labels := []any{}
	for _, l := range p.labels {
		if w.kind == GitLab {
			labels = append(labels, l)
		} else {
			labels = append(labels, obj{"id": 7, "name": l, "color": "00ff00"})
		}
	}
	if w.kind == GitLab {
		state := map[string]string{"open": "opened"}[p.state]
		o := obj{
			"id": 9000 + p.number, "iid": p.number, "state": first(state, p.state), "sha": p.head, "source_branch": p.ref,
			"target_branch": p.base, "source_project_id": 1, "target_project_id": 1, "author": w.user(p.author),
			"draft": p.draft, "labels": labels, "updated_at": "2026-03-01T11:00:00.123Z", "merge_commit_sha": nil,
		}
		if p.fork {
			o["source_project_id"] = 2
		}
		if p.unread {
			o["sha"] = nil
		}
		return o
	}
	head := obj{"label": "eve:" + p.ref, "ref": p.ref, "sha": p.head, "repo": obj{"id": 1, "full_name": "shop/cluster"}, "repo_id": 1}
	if p.fork {
		head["repo"], head["repo_id"] = obj{"id": 2, "full_name": "eve/cluster"}, 2
	}
	if p.agit {
		head["label"] = ""
	}
	if p.unread {
		head["sha"] = ""
	}
	return obj{
		"id": 9000 + p.number, "number": p.number, "state": p.state, "draft": p.draft, "user": w.user(p.author), "labels": labels,
		"head": head, "base": obj{"label": "main", "ref": p.base, "sha": sha("ba5e"), "repo": obj{"id": 1}, "repo_id": 1},
		"updated_at": "2026-03-01T11:00:00Z", "merged_at": nil, "body": nil,
	}
}

func (w *world) history(p *wPull, versions bool) []any {
	out := []any{}
	for _, e := range p.events {
		if o := w.event(e, versions); o != nil {
			out = append(out, o)
		}
	}
	return out
}

func (w *world) event(e wEvent, versions bool) any {
	when := e.at.Format(time.RFC3339)
	moved := e.what == "push" || e.what == "force"
	labels := e.what == "label" || e.what == "unlabel"
	switch {
	case w.kind == GitHub && e.what == "force":
		return obj{"id": e.id, "event": "head_ref_force_pushed", "actor": w.user(e.by), "created_at": when, "commit_id": e.head}
	case w.kind == GitHub && (e.what == "push" || e.what == "open"): // without a time of its own
		return obj{"event": "committed", "sha": e.head, "author": obj{"name": "eve", "date": "2001-01-01T00:00:00Z"}, "node_id": "x"}
	case w.kind == GitHub && labels:
		return obj{"id": e.id, "event": e.what + "ed", "actor": w.user(e.by), "created_at": when, "label": obj{"name": e.label, "color": "f"}}
	case w.kind == GitHub && e.what == "comment":
		return obj{"id": e.id, "event": "commented", "actor": w.user(e.by), "user": w.user(e.by), "created_at": when, "body": e.body}
	case w.kind == GitLab && versions && (moved || e.what == "open"):
		return obj{"id": e.id, "head_commit_sha": e.head, "created_at": when, "state": "collected"}
	case w.kind == GitLab && !versions && labels:
		action := map[string]string{"label": "add", "unlabel": "remove"}[e.what]
		return obj{"id": e.id, "user": w.user(e.by), "created_at": when, "label": obj{"id": 3, "name": e.label}, "action": action}
	case w.kind == Gitea && moved:
		ids := []string{sha("abc"), e.head}
		if e.what == "force" {
			ids = []string{e.body, e.head}
		}
		b, _ := json.Marshal(obj{"is_force_push": e.what == "force", "commit_ids": ids})
		return obj{"id": e.id, "type": "pull_push", "user": w.user(e.by), "body": string(b), "created_at": when, "label": nil}
	case w.kind == Gitea && labels:
		body := map[string]string{"label": "1"}[e.what]
		return obj{"id": e.id, "type": "label", "user": w.user(e.by), "body": body, "created_at": when, "label": obj{"id": 3, "name": e.label}}
	case w.kind == Gitea && e.what == "comment":
		return obj{"id": e.id, "type": "comment", "user": w.user(e.by), "body": e.body, "created_at": when, "label": nil}
	}
	return nil
}

func (w *world) comment(c *wComment) any {
	o := obj{"id": c.id, "body": c.body, "created_at": "2026-03-01T11:00:00Z"}
	if w.kind == GitLab {
		o["author"], o["system"] = w.user(c.by), false
	} else {
		o["user"] = w.user(c.by)
	}
	return o
}

func (w *world) status(s wStatus) any {
	switch w.kind {
	case GitLab:
		return obj{"id": s.id, "sha": s.commit, "status": s.state, "name": s.name, "description": orNull(s.text), "target_url": orNull(s.url)}
	case Gitea:
		return obj{"id": s.id, "status": s.state, "context": s.name, "description": s.text, "target_url": s.url}
	}
	return obj{"id": s.id, "state": s.state, "context": s.name, "description": orNull(s.text), "target_url": orNull(s.url)}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (w *world) deploy(d *wDeploy) any {
	o := obj{"id": d.id, "sha": d.commit, "ref": "topic", "environment": d.env}
	if w.kind == GitLab {
		o["environment"], o["status"], o["iid"] = obj{"name": d.env}, d.states[len(d.states)-1], strconv.Itoa(1)
	}
	return o
}

func (w *world) environ(e *wEnviron) any {
	return obj{"id": e.id, "name": e.name, "external_url": orNull(e.url), "state": e.state, "slug": "s"}
}
