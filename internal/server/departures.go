package server

import (
	"context"
	"net/http"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/web"
)

// departures tells apps that sessions ended, and that they were answered.
type departures struct {
	s    *Server
	http *http.Client
}

func newDepartures(s *Server, e web.Egress) departures {
	e.MaxBytes = 64 << 10
	return departures{s, e.Client()}
}

// Client is behind the guard on outbound calls.
func (d departures) Client() *http.Client { return d.http }

// Told are the clients that want to be told.
func (d departures) Told(ctx context.Context) ([]client.Client, error) {
	return d.s.Store.ToldApps(ctx, notice.MaxApps)
}

// Ended gives the sessions that an event ended and that a client took part in.
func (d departures) Ended(ctx context.Context, e notice.Event, c client.Client) ([]string, error) {
	return d.s.Store.EndedSessions(ctx, e.ID, e.At, e.Line.Persons, c.ID)
}

// Pings are the answers that an event is of, and that a client waits to be told of.
func (d departures) Pings(ctx context.Context, e notice.Event, c client.Client) (out []notify.Ping, err error) {
	names, _ := e.Field("requests").([]any)
	for _, x := range names {
		name, _ := x.(string)
		n, ok, err := d.s.oauth.Notification(ctx, c, name)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, notify.Ping{Request: name, URL: n.URL, Token: n.Token, AuthReqID: n.AuthReqID})
		}
	}
	return out, nil
}

// LogoutToken makes the token that tells a client of the end of a session.
func (d departures) LogoutToken(ctx context.Context, c client.Client, id string) (string, error) {
	ses, err := d.s.Store.Session(ctx, id)
	if err != nil {
		return "", err
	}
	return d.s.oauth.LogoutToken(ctx, c, ses)
}
