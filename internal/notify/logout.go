package notify

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/notice"
)

// Apps tells clients that a session has ended (OpenID Connect Back-Channel Logout).
type Apps interface {
	// Told are the clients that want to be told.
	Told(ctx context.Context) ([]client.Client, error)
	// Ended gives the sessions that an event ended and that a client took part in. As
	// long as nothing changes it MUST give the same.
	Ended(ctx context.Context, e notice.Event, c client.Client) ([]string, error)
	// LogoutToken makes the token that tells a client of the end of a session. It lives
	// for minutes, so each attempt has its own.
	LogoutToken(ctx context.Context, c client.Client, session string) (string, error)
	// Client is behind the guard on outbound calls.
	Client() *http.Client
}

// appTime is how long an app may take to answer one logout token.
const appTime = 5 * time.Second

// appChannel tells one client. Each has a channel of its own, so that one which
// hangs holds up no other.
func (n *Notifier) appChannel(c client.Client) channel {
	return channel{name: c.ID, stat: 3, kinds: notice.Departures(), messages: func(ctx context.Context, e notice.Event) ([]message, error) {
		if e.Refused {
			return nil, nil
		}
		sessions, err := n.Apps.Ended(ctx, e, c)
		if err != nil {
			return nil, err
		}
		var out []message
		for _, ses := range sessions {
			out = append(out, message{to: ses, send: func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, appTime)
				defer cancel()
				return n.depart(ctx, c, ses)
			}})
		}
		return out, nil
	}}
}

// depart sends one logout token (§2.5). Anything but 2xx is a failure, and is tried
// again: an app that could not end the session has not.
func (n *Notifier) depart(ctx context.Context, c client.Client, session string) error {
	token, err := n.Apps.LogoutToken(ctx, c, session)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.BackchannelURI, strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	if err != nil {
		return &failure{why: "the address cannot be called", final: true}
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", "Countersign")
	err = sent(n.Apps.Client(), r)
	var gone *goneError
	if errors.As(err, &gone) { // it is registered by an administrator, who takes it back
		return &failure{why: "the receiver answered 410"}
	}
	return err
}
