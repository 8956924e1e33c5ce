package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
)

// TestLeaksAreKnown: each sort of value that this deployment hands out is known by
// what it is, and only while it is worth something; what is made up is not.
func TestLeaksAreKnown(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		dana := n.person("dana")
		cookie, browser := secret.New(secret.Session), secret.New(secret.Device)
		d := session.Device{ID: id.New(id.Device), Label: "Firefox"}
		ses := session.Session{ID: id.New(id.Session), Person: dana.ID, Device: d.ID, ExpiresAt: n.now().Add(session.Lifetime), IdleUntil: n.now().Add(session.IdleLifetime)}
		n.record(audit.SessionOpened, nil, session.Open{Session: ses, SecretHash: cookie.Hash(), NewDevice: &d, DeviceHash: browser.Hash()})

		key := secret.New(secret.ClientSecret)
		hash := key.Hash()
		c := client.Client{ID: id.New(id.Client), ClientID: "worker", Name: "Worker", AuthMethod: client.AuthSecretBasic, SecretHash: &hash, Owner: dana.ID, ManagedBy: "api"}
		n.record(audit.ClientCreated, nil, client.Create{Client: c})

		g := grant.Grant{ID: id.New(id.Grant), Person: dana.ID, Client: c.ID, Session: ses.ID, ExpiresAt: n.now().Add(grant.FamilyLifetime)}
		family := id.New(id.Family)
		raw, _ := id.Bytes(family)
		tok := grant.FirstToken(raw)
		fam := grant.Family{ID: family, Grant: g.ID, Client: c.ID, Person: dana.ID, CurHash: tok.Hash(), ExpiresAt: g.ExpiresAt, IdleUntil: g.ExpiresAt, KeyVersion: n.Ring.CurrentRT()}
		n.record(audit.GrantOpened, nil, grant.Open{Grant: g}, grant.OpenFamily{Family: fam})

		_, told := n.hook("https://siem.example.com")
		put, link := account.NewEmailProof(testIssuer, account.EmailProof{Person: dana.ID, Email: dana.Email}, n.now())
		n.record(audit.EmailLinked, nil, put)

		private := secret.New(secret.Recover)
		rec := recovery.New(recovery.ByPeople, dana.ID, n.now())
		rec.Claim, rec.ExpiresAt = recovery.ClaimOf(private).Reveal(), n.now().Add(time.Hour)
		given := recovery.Given(dana.ID, dana.ID, "a test", time.Hour, time.Hour, n.now())
		pass, putPass := recovery.NewPass(given, n.now())
		codes, putCodes := recovery.NewCodes(dana.ID, n.now())
		n.record(audit.RecoveryOpened, nil, append(putCodes, recovery.Start{Recovery: rec}, recovery.Start{Recovery: given}, putPass)...)
		// Suspended is not over: what leaked would work again with its owner.
		n.record(audit.PersonDisabled, nil, lineage.Freeze{ID: dana.ID, Why: "disabled"}, lineage.Freeze{ID: c.ID, Why: "disabled"})

		other := grant.FirstToken([16]byte{1})
		for _, made := range []string{
			"", "cs_secret_", secret.New(secret.ClientSecret).Reveal(), secret.New(secret.Session).Reveal(), secret.New(secret.Device).Reveal(), secret.New(secret.Email).Reveal(), secret.New(secret.Recover).Reveal(), secret.NewTyped().Grouped(),
			other.Text(n.Ring).Reveal(), "whsec_AAAA", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat("x", 10000), cookie.Reveal()[:40],
		} {
			if f, ok, err := n.leak(t.Context(), made); ok || err != nil {
				t.Errorf("%.30q is known as %s (%v)", made, f.What, err)
			}
		}
		// The order matters: each ends what comes before it hangs on nothing of.
		for _, c := range []struct {
			text, what, person string
			ends               bool
		}{
			{pass.Grouped(), "a temporary pass", dana.ID, true},
			{codes[3].Grouped(), "a recovery code", dana.ID, true},
			{private.Reveal(), "the private link of a recovery", dana.ID, true},
			{told, "the secret of a webhook", "", false},
			{key.Reveal(), "the secret of a client", dana.ID, false},
			{link[strings.IndexByte(link, '=')+1:], "a link that works once", "", true},
			{tok.Text(n.Ring).Reveal(), "a refresh token", dana.ID, true},
			{cookie.Reveal(), "the cookie of a session", dana.ID, true},
			{browser.Reveal(), "the cookie of a browser", "", true},
		} {
			f, ok, err := n.leak(context.Background(), c.text)
			if err != nil || !ok || f.What != c.what || f.Person != c.person || (len(f.Changes) > 0) != c.ends || (f.Done != "") != c.ends || (f.Next == "") != c.ends {
				t.Errorf("%s: %+v, %v, %v", c.what, f, ok, err)
				continue
			}
			n.record(audit.SecretLeaked, nil, f.Changes...)
			if _, still, err := n.leak(context.Background(), c.text); err != nil || still == c.ends {
				t.Errorf("%s: known again: %v, %v", c.what, still, err)
			}
		}
	})
}
