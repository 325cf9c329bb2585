package render

import "strings"

// redacted keeps what an author wrote as a Secret's value out of a problem: CUE quotes the values that conflict, and
// problems go to terminals, logs and everybody who asks for the status.
func redacted(p Problem) Problem {
	if inSecret(parsePath(p.Path)) && strings.ContainsAny(p.Text, `"'0123456789`) {
		p.Text = "is not what may stand here; it may be a Secret's value and is not shown"
	}
	return p
}

// inSecret tells whether a field may hold values of a Secret. Of an entry of `objects` whose key does not name its kind
// that is not known.
func inSecret(path []string) bool {
	if len(path) > 2 && path[0] == "app" {
		path = path[2:]
	}
	if len(path) == 0 {
		return false
	}
	switch path[0] {
	case "secret":
		return len(path) < 3 || isSecretData(path[2])
	case "objects":
		if len(path) < 2 {
			return false
		}
		kind, _, named := strings.Cut(path[1], "/")
		if named && !strings.EqualFold(kind, "secret") {
			return false
		}
		return len(path) == 2 && named || len(path) > 2 && isSecretData(path[2])
	}
	return false
}

func isSecretData(field string) bool { return field == "data" || field == "stringData" }
