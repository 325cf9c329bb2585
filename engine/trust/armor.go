package trust

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// kind is what begins a signature.
type kind struct{ begin, end string }

var (
	kindSSH = kind{"-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"}
	kindPGP = kind{"-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----"}
	kindKey = kind{"-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"}
)

// starts are the lines by which Git finds a signature at the end of a tag.
var starts = []string{kindSSH.begin, kindPGP.begin, "-----BEGIN PGP MESSAGE-----", "-----BEGIN SIGNED MESSAGE-----"}

// dearmor returns what one armored block of kind k holds. text must be that block and nothing else. Of OpenPGP it takes headers and the
// checksum, which is not verified: the signature is.
func dearmor(text string, k kind) ([]byte, error) {
	body, ok := strings.CutPrefix(text, k.begin+"\n")
	if !ok {
		return nil, fmt.Errorf("expected %q on a line of its own first", k.begin)
	}
	body, ok = strings.CutSuffix(strings.TrimSuffix(body, "\n"), k.end)
	if !ok || !strings.HasSuffix(body, "\n") {
		return nil, fmt.Errorf("expected %q on a line of its own last", k.end)
	}
	lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	if k != kindSSH {
		lines = pgpBody(lines)
	}
	var b strings.Builder
	for i, line := range lines {
		if line == "" || len(line) > 76 || strings.ContainsAny(line, "\r \t-") || i < len(lines)-1 && len(line) != len(lines[0]) {
			return nil, errors.New("the armor is not base64 in lines of one length, up to 76")
		}
		b.WriteString(line)
	}
	out, err := base64.StdEncoding.Strict().DecodeString(b.String())
	if err != nil || len(out) == 0 {
		return nil, errors.New("the armor is not base64")
	}
	return out, nil
}

// pgpBody leaves out the headers, up to an empty line, and the checksum.
func pgpBody(lines []string) []string {
	for i, line := range lines {
		if line == "" {
			lines = lines[i+1:]
			break
		}
	}
	if n := len(lines); n > 0 && len(lines[n-1]) == 5 && lines[n-1][0] == '=' {
		lines = lines[:n-1]
	}
	return lines
}
