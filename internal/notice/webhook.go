package notice

import (
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

// MaxWebhooks is how many webhooks a deployment has.
const MaxWebhooks = 50

// Overlap is how long the secret before the newest goes on signing beside it.
const Overlap = 24 * time.Hour

// Sealer seals what is kept of a webhook's secret.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

func associated(webhook string) []byte { return []byte("webhook\x00" + webhook + "\x00sealed\x001") }

// NewSecret makes a webhook's secret: the bytes sealed, to be kept, and the text
// to be told once.
func NewSecret(s Sealer, webhook string) (sealed []byte, told secret.Value, err error) {
	raw, told := secret.NewWebhook()
	sealed, err = s.Seal(raw, associated(webhook))
	return sealed, told, err
}

// Secrets gives the keys that sign at a moment, the newest first.
func (w Webhook) Secrets(s Sealer, now time.Time) ([][]byte, error) {
	list := [][]byte{w.Sealed}
	if len(w.Before) > 0 && now.Before(w.BeforeEnd) {
		list = append(list, w.Before)
	}
	var out [][]byte
	for _, sealed := range list {
		raw, err := s.Open(sealed, associated(w.ID))
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

// Check says whether a webhook can be registered: a name, an address that can be
// called, and events that there are. plain permits http, to the hosts that egress
// is allowed to reach anyhow.
func (w Webhook) Check(plain func(host string) bool) error {
	if _, err := account.CheckName(w.Name); err != nil {
		return problem.New(problem.Invalid, "name_invalid", "A webhook's name has 1 to 80 characters.")
	}
	u, err := url.Parse(w.URL)
	if err != nil || len(w.URL) > 1024 || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.Contains(w.URL, "#") ||
		!utf8.ValidString(w.URL) || u.Scheme != "https" && !(u.Scheme == "http" && plain(u.Host)) {
		return problem.New(problem.Invalid, "url_invalid", "A webhook's address is an https URL without user, password and fragment.").
			WithHint("For http, or an address within your own network, name host:port in egress.allow of the server's configuration.")
	}
	for _, p := range w.Events {
		if p != "*" && !slices.ContainsFunc(audit.Kinds(), func(k audit.Kind) bool { return matches(p, k.Name()) }) {
			return problem.Newf(problem.Invalid, "event_unknown", "No kind of event is %.60q.", p).
				WithHint("Events are kinds of record such as factor.enrolled, or all of a noun: factor.*")
		}
	}
	return nil
}

// matches reports whether a pattern names a kind: exactly, or as noun.* .
func matches(pattern, kind string) bool {
	if noun, ok := strings.CutSuffix(pattern, ".*"); ok {
		return strings.HasPrefix(kind, noun+".")
	}
	return pattern == kind
}

// Wants reports whether a webhook is told of a kind of record. One without
// patterns is told what somebody is told: persons, administrators, or alerts.
func (w Webhook) Wants(k audit.Kind) bool {
	if len(w.Events) == 0 {
		return table[k].told()
	}
	return slices.ContainsFunc(w.Events, func(p string) bool { return p == "*" || matches(p, k.Name()) })
}

// Kinds are the kinds of record that a webhook is told of.
func (w Webhook) Kinds() (out []audit.Kind) {
	for _, k := range audit.Kinds() {
		if w.Wants(k) {
			out = append(out, k)
		}
	}
	return out
}
