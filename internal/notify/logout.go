package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/secret"
)

// Apps tells clients that a session has ended (OpenID Connect Back-Channel Logout),
// and that somebody has answered what they asked (CIBA Core §10.2).
type Apps interface {
	// Told are the clients that want to be told.
	Told(ctx context.Context) ([]client.Client, error)
	// Ended gives the sessions that an event ended and that a client took part in. As
	// long as nothing changes it MUST give the same.
	Ended(ctx context.Context, e notice.Event, c client.Client) ([]string, error)
	// LogoutToken makes the token that tells a client of the end of a session. It lives
	// for minutes, so each attempt has its own.
	LogoutToken(ctx context.Context, c client.Client, session string) (string, error)
	// Pings are the answers that an event is of, and that a client waits to be told of.
	Pings(ctx context.Context, e notice.Event, c client.Client) ([]Ping, error)
	// Client is behind the guard on outbound calls.
	Client() *http.Client
}

// Ping says that a request was answered, and not how.
type Ping struct {
	Request   string // key of the request, within the event
	URL       string
	Token     secret.Value // bearer token that the client gave with the request
	AuthReqID secret.Value
}

// appTime is how long an app may take to answer one call.
const appTime = 5 * time.Second

// appChannel tells one client. Each has a channel of its own, so that one which
// hangs holds up no other.
func (n *Notifier) appChannel(c client.Client) channel {
	kinds := slices.Concat(notice.Departures(), notice.Answers())
	return channel{name: c.ID, stat: 3, kinds: kinds, messages: func(ctx context.Context, e notice.Event) ([]message, error) {
		switch {
		case e.Refused:
			return nil, nil
		case slices.Contains(notice.Answers(), e.Kind):
			return n.pings(ctx, e, c)
		case c.BackchannelURI == "":
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

// pings tell a client that its requests were answered.
func (n *Notifier) pings(ctx context.Context, e notice.Event, c client.Client) (out []message, err error) {
	list, err := n.Apps.Pings(ctx, e, c)
	for _, p := range list {
		out = append(out, message{to: p.Request, send: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, appTime)
			defer cancel()
			return n.ping(ctx, p)
		}})
	}
	return out, err
}

// ping sends one (CIBA Core §10.2). Who refuses it, or sends us elsewhere, is not told
// again; who cannot be reached, is busy or fails is, for as long as the answer waits.
func (n *Notifier) ping(ctx context.Context, p Ping) error {
	body, err := json.Marshal(map[string]string{"auth_req_id": p.AuthReqID.Reveal()})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, bytes.NewReader(body))
	if err != nil {
		return &failure{why: "the address cannot be called", final: true}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+p.Token.Reveal())
	r.Header.Set("User-Agent", "Countersign")
	err = sent(n.Apps.Client(), r)
	var gone *goneError
	var f *failure
	switch {
	case errors.As(err, &gone):
		return &failure{why: "the receiver answered 410", final: true}
	case errors.As(err, &f) && (f.barred || f.status/100 == 3 || f.status/100 == 4) && f.status != http.StatusRequestTimeout && f.status != http.StatusTooManyRequests:
		f.final = true
	}
	return err
}
