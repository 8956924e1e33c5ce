package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// ClientSecret is what is told of a secret after it was made: never the secret.
type ClientSecret struct {
	Name   string     `json:"name" doc:"The first 12 hexadecimal digits of the SHA-256 of the secret"`
	MadeAt *time.Time `json:"made_at,omitempty"`
	EndsAt *time.Time `json:"ends_at,omitempty" doc:"When it stops working; left out for the newest, which works until it is replaced"`
}

// NewSecret is the answer that tells a secret, once.
type NewSecret struct {
	ClientSecret
	Secret string `json:"client_secret,omitempty" doc:"Told once, when it is made"`
}

// Overlap says how long the earlier secret works on.
type Overlap struct {
	Seconds *int64 `json:"overlap,omitempty" minimum:"1" maximum:"2592000" doc:"Seconds for which the earlier secret works on; a day if left out, 30 days at most"`
}

type (
	secretIn struct {
		ClientID string `path:"client_id" maxLength:"64"`
		KeyParam
	}
	secretAddIn struct {
		ClientID string `path:"client_id" maxLength:"64"`
		KeyParam
		Body *Overlap
	}
	secretEndIn struct {
		ClientID string `path:"client_id" maxLength:"64"`
		Name     string `path:"name" maxLength:"12"`
	}
	secretListOut struct {
		Body struct {
			Items []ClientSecret `json:"items" nullable:"false" doc:"Those that work, the newest first: two at most"`
		}
	}
	secretOut struct{ Body NewSecret }
)

func (a *API) clientSecrets() {
	const tag = "clients"
	register(a, operation{
		id: "rotate-client-secret", method: http.MethodPost, path: "/v1/clients/{client_id}/secret", summary: "Give a client a new secret; the old one stops working", tag: tag,
		scope: ScopeWrite, action: policy.ClientSecretRotate, kind: audit.ClientSecretRotated, status: http.StatusOK,
	}, a.rotateSecret)
	register(a, operation{
		id: "list-client-secrets", method: http.MethodGet, path: "/v1/clients/{client_id}/secrets", summary: "List a client's secrets by name; none is told again", tag: tag,
		scope: ScopeRead, action: policy.ClientRead, kind: audit.TokenRefused,
	}, a.listSecrets)
	register(a, operation{
		id: "add-client-secret", method: http.MethodPost, path: "/v1/clients/{client_id}/secrets", summary: "Give a client another secret; the earlier one works on for a while", tag: tag,
		scope: ScopeWrite, action: policy.ClientSecretRotate, kind: audit.ClientSecretAdded, status: http.StatusCreated,
	}, a.addSecret)
	register(a, operation{
		id: "retire-client-secret", method: http.MethodDelete, path: "/v1/clients/{client_id}/secrets/{name}", summary: "Stop the earlier secret of a client before its time", tag: tag,
		scope: ScopeWrite, action: policy.ClientSecretRotate, kind: audit.ClientSecretRetired, status: http.StatusNoContent,
	}, a.retireSecret)
}

// viewSecrets are the secrets that work now, the newest first.
func (a *API) viewSecrets(c client.Client) []ClientSecret {
	out := []ClientSecret{}
	if c.SecretHash != nil {
		out = append(out, ClientSecret{Name: client.SecretName(*c.SecretHash), MadeAt: known(c.SecretAt)})
	}
	if e := c.Earlier; e != nil && a.now().Before(e.EndsAt) {
		out = append(out, ClientSecret{Name: client.SecretName(e.Hash), MadeAt: known(e.MadeAt), EndsAt: known(e.EndsAt)})
	}
	return out
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

var noSecret = problem.New(problem.Conflict, "no_secret", "This client does not authenticate with a secret.")

func (a *API) listSecrets(ctx context.Context, _ *call, in *clientIDIn) (*secretListOut, error) {
	c, err := a.liveClient(ctx, in.ClientID)
	if err != nil {
		return nil, err
	}
	out := &secretListOut{}
	out.Body.Items = a.viewSecrets(c)
	return out, nil
}

func (a *API) rotateSecret(ctx context.Context, c *call, in *secretIn) (*clientOut, error) {
	cl, text, err := a.newSecret(ctx, c, secretAddIn{ClientID: in.ClientID, KeyParam: in.KeyParam}, 0)
	if err != nil {
		return nil, err
	}
	return a.tell(ctx, cl, text)
}

func (a *API) addSecret(ctx context.Context, c *call, in *secretAddIn) (*secretOut, error) {
	overlap := client.UsualOverlap
	if in.Body != nil && in.Body.Seconds != nil {
		overlap = time.Duration(*in.Body.Seconds) * time.Second
	}
	clientID, text, err := a.newSecret(ctx, c, *in, overlap)
	if err != nil {
		return nil, err
	}
	cl, err := a.liveClient(ctx, clientID)
	if err != nil {
		return nil, err
	}
	return &secretOut{NewSecret{a.viewSecrets(cl)[0], text}}, nil
}

// newSecret gives a client another secret and tells it; "" for a request whose key
// is known: what it made was told then. The earlier one works on for overlap.
func (a *API) newSecret(ctx context.Context, c *call, in secretAddIn, overlap time.Duration) (clientID, text string, err error) {
	key, earlier, err := a.before(ctx, c, in.KeyParam, in.Body)
	if err != nil || earlier != "" {
		return earlier, "", err
	}
	cl, err := a.managed(ctx, in.ClientID)
	if err != nil {
		return "", "", err
	}
	if text = withSecret(&cl); text == "" {
		return "", "", noSecret
	}
	rotate := client.RotateSecret{ID: cl.ID, SecretHash: *cl.SecretHash}
	said := map[string]any{"client": cl.ID, "client_id": cl.ClientID, "secret": client.SecretName(rotate.SecretHash)}
	if overlap > 0 {
		rotate.EarlierUntil = a.now().Add(overlap)
		said["until"] = rotate.EarlierUntil.UTC().Format(time.RFC3339)
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{cl.ID}, said: said,
		make: func(*act.Facts) ([]act.Change, error) { return key.remember(cl.ClientID, a.now(), rotate), nil },
	})
	if key.lost(err) {
		_, earlier, err = a.before(ctx, c, in.KeyParam, in.Body)
		return earlier, "", err
	}
	return cl.ClientID, text, err
}

func (a *API) retireSecret(ctx context.Context, c *call, in *secretEndIn) (*none, error) {
	cl, err := a.managed(ctx, in.ClientID)
	if err != nil {
		return nil, err
	}
	switch {
	case cl.SecretHash == nil:
		return nil, noSecret
	case client.SecretName(*cl.SecretHash) == in.Name:
		return nil, problem.New(problem.Conflict, "newest_secret", "This is the newest secret: it works until another takes its place.").
			WithHint("Give the client another secret, or end the client.")
	case cl.Earlier == nil || client.SecretName(cl.Earlier.Hash) != in.Name || !a.now().Before(cl.Earlier.EndsAt):
		return nil, problem.New(problem.NotFound, "secret_not_found", "The client has no earlier secret of this name.")
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{cl.ID}, said: map[string]any{"client": cl.ID, "client_id": cl.ClientID, "secret": in.Name},
		make: func(*act.Facts) ([]act.Change, error) {
			return []act.Change{client.RetireSecret{ID: cl.ID, Hash: cl.Earlier.Hash}}, nil
		},
	})
	return nil, err
}
