package oauth

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// While the database is away nothing is said of what was asked: no token is called
// bad, which would sign its client out for good, and nothing is called revoked. Every
// grant and every other endpoint answers 503, and works again after it.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	pg, dsn := pgtest.Shared(t), pgtest.Start(t)
	r := newRig(t, 1, func(now func() time.Time) (*store.Store, error) {
		return postgres.Open(t.Context(), postgres.Options{DSN: dsn, Migrate: true, Now: now})
	})
	away := func(name string, ask func() answer) {
		t.Helper()
		ok(r, pg.Cut(t.Context(), dsn))
		defer func() { ok(r, pg.Join(t.Context(), dsn)) }()
		for range 2 { // the first may meet a connection that broke
			if a := ask(); a.status != 503 {
				t.Errorf("%s while the database is away: %d %q %s", name, a.status, a.header.Get("WWW-Authenticate"), a.body)
			} else if json.Valid([]byte(a.body)) && a.code() != "temporarily_unavailable" {
				t.Errorf("%s: %s", name, a.body)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.visits())) {
		r.anew()
		v := r.visits()[name]()
		away(name, func() answer { return r.knock(v) })
		r.expect(name+" after it", 200, "", r.knock(v))
	}
	r.anew()
	tok := r.granted(r.web, "scope", "openid profile notes:read")
	for _, c := range []struct {
		name, method, path string
		form               url.Values
		opts               []option
		status             int // once the database is back
	}{
		{"userinfo", "GET", "/oauth/userinfo", nil, []option{with("Authorization", "Bearer "+tok.AccessToken)}, 200},
		{"introspection", "POST", "/oauth/introspect", form("token", tok.AccessToken), []option{r.auth(r.rs)}, 200},
		{"pushed request", "POST", "/oauth/par", r.request(r.web), []option{r.auth(r.web)}, 201},
		{"authorization", "GET", "/oauth/authorize?" + r.request(r.app).Encode(), nil, []option{in(r.ses)}, 303},
		{"logout", "GET", "/oauth/logout?" + form("id_token_hint", tok.IDToken).Encode(), nil, []option{in(r.ses)}, 200},
		{"device", "POST", devicePath, form("client_id", r.app.ClientID), nil, 200},
		{"revocation of an access token", "POST", "/oauth/revoke", form("token", tok.AccessToken), []option{r.auth(r.web)}, 200},
		{"revocation of a refresh token", "POST", "/oauth/revoke", form("token", r.granted(r.web).RefreshToken), []option{r.auth(r.web)}, 200},
	} {
		ask := func() answer {
			if c.method == "GET" {
				return r.get(c.path, c.opts...)
			}
			return r.post(c.path, c.form, c.opts...)
		}
		away(c.name, ask)
		if a := ask(); a.status != c.status {
			t.Errorf("%s after it: %d %s", c.name, a.status, a.body)
		}
	}
	if r.active(tok.AccessToken) {
		t.Error("a token is active after it was revoked")
	}
}
