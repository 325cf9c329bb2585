package githost

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// MaxWebhook bounds the body of a webhook in bytes.
const MaxWebhook = 1 << 20

// webhookTime is how long a forge may take to send one.
const webhookTime = 10 * time.Second

// Webhook answers the webhooks of forges: one whose signature is right calls wake and is answered 202. Nothing in
// the body is parsed or believed, since the fetch that follows sees for itself; it is summed up as it is read and
// never held. The signature is X-Hub-Signature-256 (GitHub, Gitea, Forgejo), X-Gitea-Signature, or the secret
// itself in X-Gitlab-Token, and is compared in constant time. Without a secret every request is refused. wake is
// called for each good request, also a repeated one, and must gather them itself and not block.
func Webhook(secret string, wake func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "expected POST", http.StatusMethodNotAllowed)
			return
		case secret == "":
			http.Error(w, "no webhook secret is set", http.StatusForbidden)
			return
		case r.ContentLength > MaxWebhook:
			http.Error(w, "the body is longer than 1 MiB", http.StatusRequestEntityTooLarge)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(webhookTime))
		sum := hmac.New(sha256.New, []byte(secret))
		_, err := io.Copy(sum, http.MaxBytesReader(w, r.Body, MaxWebhook))
		var long *http.MaxBytesError
		switch {
		case errors.As(err, &long):
			http.Error(w, "the body is longer than 1 MiB", http.StatusRequestEntityTooLarge)
		case err != nil:
			http.Error(w, "the body is cut short", http.StatusBadRequest)
		case !signed(r.Header, sum.Sum(nil), secret):
			http.Error(w, "the signature is missing or wrong", http.StatusForbidden)
		default:
			wake()
			w.WriteHeader(http.StatusAccepted)
		}
	})
}

// signed says whether one of the forges' headers proves the secret. The first that is there decides.
func signed(h http.Header, sum []byte, secret string) bool {
	if given := h.Get("X-Hub-Signature-256"); given != "" {
		hexed, ok := strings.CutPrefix(given, "sha256=")
		return ok && equalHex(hexed, sum)
	}
	if given := h.Get("X-Gitea-Signature"); given != "" {
		return equalHex(given, sum)
	}
	if given := h.Get("X-Gitlab-Token"); given != "" {
		a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
		return subtle.ConstantTimeCompare(a[:], b[:]) == 1
	}
	return false
}

func equalHex(given string, sum []byte) bool {
	b, err := hex.DecodeString(given)
	return err == nil && hmac.Equal(b, sum)
}
