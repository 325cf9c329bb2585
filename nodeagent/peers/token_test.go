package peers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestTokenText(t *testing.T) {
	token := newToken(testRing, Pin{1, 2, 31: 3})
	text := token.Text()
	if len(text) != 129 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567-1") != "" || strings.Count(text, "-") != 1 {
		t.Errorf("token %q is not one word", text)
	}
	for _, copied := range []string{text, " " + text + "\n", strings.ToUpper(text)} {
		got, err := ParseToken(copied)
		if err != nil || got != token {
			t.Errorf("%q: %v, %v", copied, got, err)
		}
	}
	if other := newToken(testRing, token.Pin); other.Text() == text || other.Hash() == token.Hash() {
		t.Error("two tokens are alike")
	}
}

func TestTokenThatWasNotCopiedWell(t *testing.T) {
	text := newToken(testRing, Pin{7}).Text()
	swapped := []byte(text)
	swapped[40], swapped[90] = 'a'+(swapped[40]-'a'+1)%26, 'z'
	for name, c := range map[string]struct{ text, want string }{
		"nothing":         {"", "token is empty"},
		"another word":    {"K10abc::server:secret", `does not begin with "shoal1-"`},
		"cut off":         {text[:100], "is cut off: it has 100 characters of 129"},
		"prefix alone":    {"shoal1-", "is cut off"},
		"two words":       {text + " " + text, "too long"},
		"a wrong letter":  {text[:60] + "0" + text[61:], "characters that do not belong"},
		"changed letters": {string(swapped), "checksum"},
	} {
		if _, err := ParseToken(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		} else if len(c.text) > 20 && strings.Contains(err.Error(), c.text[:20]) {
			t.Errorf("%s: the error tells the token", name)
		}
	}
}

// A secret leaves a Token by Text alone.
func TestTokenIsNotPrinted(t *testing.T) {
	token := newToken(testRing, Pin{})
	secret := token.Text()[60:100]
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "token", token)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "token", token)
	fmt.Fprintf(&out, "%v %+v %#v %s", token, token, token, token)
	if err := json.NewEncoder(&out).Encode(token); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", token.secret)) || strings.Contains(s, "secret") {
		t.Errorf("the secret was printed:\n%s", s)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(newToken(testRing, Pin{9}).Text())
	f.Add("shoal1-")
	f.Add(tokenPrefix + strings.Repeat("a", 122))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && token.Text() != strings.ToLower(strings.TrimSpace(text)) {
			t.Errorf("%q is the token %q", text, token.Text())
		}
	})
}
