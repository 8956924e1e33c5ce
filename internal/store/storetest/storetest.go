// Package storetest is the suite that every engine of the store has to pass:
// what each Change writes and each reader gives, races with one winner, guards
// that move, restarts, the sequencer, and the size of a record. Engines call Run
// from their tests.
package storetest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
)

// Database is one database that can be opened more than once: again after a
// restart and, if Nodes is true, by two processes at a time.
type Database struct {
	Open  func() *store.Store // fails the test if it cannot
	Nodes bool
}

// Run runs the suite; fresh gives an empty database for each part.
func Run(t *testing.T, fresh func(t *testing.T) Database) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, Database)
	}{
		{"people", testPeople},
		{"groups", testGroups},
		{"clients", testClients},
		{"clients that nobody registered", testAdmissions},
		{"clients that were met", testMet},
		{"resources", testResources},
		{"who serves resources", testServedBy},
		{"factors", testFactors},
		{"secret factors", testSecretFactors},
		{"which factor stays", testWhatStays},
		{"kinds of factor that are off", testKindsOff},
		{"guesses", testGuesses},
		{"races for factors", testFactorRaces},
		{"recovery", testRecovery},
		{"confirmations", testConfirmations},
		{"recovery codes", testRecoveryCodes},
		{"recovery races", testRecoveryRaces},
		{"reviews", testReviews},
		{"words end", testWordsEnd},
		{"review races", testReviewRaces},
		{"proofs on probation", testProbationProofs},
		{"sessions", testSessions},
		{"managed devices", testManaged},
		{"marks by who made them", testMarked},
		{"managed devices of many", testManyDevices},
		{"races for managed devices", testManagedRaces},
		{"managed devices end", testManagedEnds},
		{"grants", testGrants},
		{"delegations", testDelegations},
		{"trusted issuers", testIssuers},
		{"keys", testKeys},
		{"deployment", testDeployment},
		{"quarantine", testQuarantine},
		{"the log in quarantine", testQuarantinedLog},
		{"rulesets", testRulesets},
		{"rollouts", testRollouts},
		{"publications", testPublications},
		{"how many publications", testPublicationsBound},
		{"how many publications of services", testPublicationsOfServices},
		{"publications end", testPublicationsEnd},
		{"races for publications", testPublicationRaces},
		{"what a rollout costs", testRolloutCost},
		{"readiness", testReadiness},
		{"decisions", testDecisions},
		{"what was monitored", testMonitored},
		{"profiles", testProfiles},
		{"reports", testReports},
		{"leaving a quarantine", testLeaving},
		{"what leaving a quarantine ends", testLeave},
		{"releasing", testRelease},
		{"replaying", testReapply},
		{"what acts took", testTaken},
		{"rename", testRename},
		{"clear", testClear},
		{"lineage", testLineage},
		{"once", testOnce},
		{"load", testLoad},
		{"guard", testGuard},
		{"groups that are off", testGroupsOff},
		{"proofs of a factor that is off", testProofsOff},
		{"cache", testCache},
		{"atomic", testAtomic},
		{"races", testRaces},
		{"refresh race", testRefreshRace},
		{"last administrator race", testLastAdministratorRace},
		{"erasure", testErasure},
		{"references", testReferred},
		{"restart", testRestart},
		{"pages", testPages},
		{"sequencer", testSequencer},
		{"two sequencers", testTwoSequencers},
		{"fence", testFence},
		{"edits", testEdits},
		{"epochs", testEpochs},
		{"known checkpoints", testKnown},
		{"housekeeping", testHousekeeping},
		{"webhooks", testWebhooks},
		{"deliveries", testDeliveries},
		{"standing alerts", testStanding},
		{"look", testLook},
		{"size", testSize},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, fresh(t)) })
	}
}

// start is the time at which things are made in the suite.
var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// rig is a store under test with a writer of records.
type rig struct {
	t      testing.TB
	s      *store.Store
	keys   *store.RecordKeys
	writer *audit.Writer
	ctx    context.Context
	at     time.Time
}

func open(t testing.TB, db Database) *rig { return newRig(t, db.Open()) }

func newRig(t testing.TB, s *store.Store) *rig {
	return &rig{t: t, s: s, keys: s.RecordKeys(sealer), writer: audit.NewWriter(), ctx: t.Context(), at: time.Now().UTC().Truncate(time.Microsecond)}
}

// write makes the Write of changes, with a record concerning the persons given.
func (r *rig) write(kind audit.Kind, leaf string, persons []string, changes ...act.Change) act.Write {
	r.t.Helper()
	at := time.Now().UTC().Truncate(time.Microsecond)
	rec := audit.Record{ID: id.New(id.Record), Kind: kind, At: at, Leaf: leaf, Facts: map[string]any{"action": kind.Name()}}
	for _, p := range persons {
		rec.Parts = append(rec.Parts, audit.Part{Person: p, Body: map[string]any{"actor": p}})
	}
	row, err := r.writer.Seal(r.ctx, rec, r.keys)
	if err != nil {
		r.t.Fatalf("seal the record: %v", err)
	}
	return act.Write{At: at, Record: rec.ID, Changes: changes, Row: row}
}

// do commits changes and fails the test if that fails.
func (r *rig) do(changes ...act.Change) (record string) {
	r.t.Helper()
	w := r.write(audit.TokenIssued, "", nil, changes...)
	if err := r.s.Commit(r.ctx, w); err != nil {
		r.t.Fatalf("commit %T: %v", changes, err)
	}
	return w.Record
}

// try commits changes and gives the error.
func (r *rig) try(changes ...act.Change) error {
	r.t.Helper()
	return r.s.Commit(r.ctx, r.write(audit.TokenIssued, "", nil, changes...))
}

// must fails the test on an error.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (r *rig) person(username string, groups ...string) account.Person {
	r.t.Helper()
	p := account.Person{
		ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Name of " + username, Username: username,
		Email: username + "@example.com", Verified: true, CreatedAt: start,
	}
	r.do(account.Create{Person: p, Groups: groups})
	return p
}

func (r *rig) group(name string) group.Group {
	r.t.Helper()
	g := group.Group{ID: id.New(id.Group), Name: name, Kind: group.Plain, CreatedAt: start}
	r.do(group.Create{Group: g})
	return g
}

func (r *rig) passkey(person string) factor.Passkey {
	r.t.Helper()
	k := factor.Passkey{
		ID: id.New(id.Credential), Person: person, Name: "Key", CredentialID: random(32), PublicKey: random(77), AAGUID: "00000000-0000-0000-0000-000000000000",
		SignCount: 4_000_000_000, Transports: []string{"internal", "hybrid"}, UserVerified: true, BackupEligible: true, Attestation: "none",
		AttestationObj: random(200), ClientData: []byte(`{"type":"webauthn.create"}`), RPID: "id.example.com", CreatedAt: start,
	}
	r.do(factor.Enrol{Passkey: k})
	return k
}

func (r *rig) session(person string, credentials ...string) (session.Session, secret.Hash) {
	r.t.Helper()
	h := hash()
	v := session.Session{
		ID: id.New(id.Session), Person: person, Proofs: proofs(person, credentials...), Network: "192.0.2.0/24", UserAgent: "Browser/1",
		CreatedAt: start, SeenAt: start, ExpiresAt: r.at.Add(session.Lifetime), IdleUntil: r.at.Add(session.IdleLifetime),
	}
	d := session.Device{ID: id.New(id.Device), Label: "Chrome on Linux", CreatedAt: start}
	v.Device = d.ID
	r.do(session.Open{Session: v, SecretHash: h, NewDevice: &d, DeviceHash: hash(), Credentials: credentials})
	return v, h
}

func (r *rig) client(clientID string) client.Client {
	r.t.Helper()
	h := hash()
	c := client.Client{
		ID: id.New(id.Client), ClientID: clientID, Name: "Client " + clientID, AuthMethod: client.AuthSecretBasic, SecretHash: &h,
		JWKS: []byte(`{"keys":[]}`), RedirectURIs: []string{"https://app.example.com/cb"}, GrantTypes: []client.GrantType{client.AuthorizationCode},
		Scopes: []string{"notes:read"}, Resources: []string{"*"}, FirstParty: true, Native: true, RequireDPoP: true, Owner: "", ManagedBy: "api", CreatedAt: start,
	}
	r.do(client.Create{Client: c})
	return c
}

func (r *rig) resource(uri string, scopes ...resource.Scope) resource.Resource {
	r.t.Helper()
	if scopes == nil {
		scopes = []resource.Scope{
			{Name: "notes:read", Description: "Read your notes", Kind: "read", Default: true},
			{Name: "keys:rotate", Description: "Rotate keys", Kind: "admin", Ask: assurance.Ask{Rung: assurance.Phishing, MaxAge: 5 * time.Minute}, Groups: []string{"operators"}},
		}
	}
	v := resource.Resource{ID: id.New(id.Resource), URI: uri, Name: "Notes", Scopes: scopes, Servers: []string{"cli_x"}, RequireDPoP: true, ManagedBy: "api", CreatedAt: start}
	r.do(resource.Create{Resource: v})
	return v
}

func (r *rig) grant(person, clientID, sessionID string, credentials ...string) (grant.Grant, grant.Family) {
	r.t.Helper()
	g := grant.Grant{
		ID: id.New(id.Grant), Person: person, Client: clientID, Session: sessionID, Resources: []string{"res_a"}, Scopes: []string{"openid", "notes:read"},
		Pair: assurance.Pair{Rung: assurance.Phishing, AuthTime: start, AMR: []string{"hwk", "user"}}, ACR: "phr",
		Proofs: proofs(person, credentials...), CreatedAt: start, ExpiresAt: r.at.Add(30 * 24 * time.Hour),
	}
	f := grant.Family{
		ID: id.New(id.Family), Grant: g.ID, Client: clientID, Person: person, CurHash: hash(), KeyVersion: 1, Network: "192.0.2.0/24", JKT: "jkt", X5T: "x5t",
		CreatedAt: start, ExpiresAt: r.at.Add(30 * 24 * time.Hour), IdleUntil: r.at.Add(72 * time.Hour),
	}
	r.do(grant.Open{Grant: g, Credentials: credentials}, grant.OpenFamily{Family: f})
	return g, f
}

func (r *rig) service(owner, clientID string) (client.Client, client.Service) {
	r.t.Helper()
	h := hash()
	sv := client.Service{ID: id.New(id.Service), Subject: id.Random("sub_"), Name: "Robot", Owner: owner, Purpose: "tests", ReviewBy: start.Add(90 * 24 * time.Hour), CreatedAt: start}
	c := client.Client{
		ID: id.New(id.Client), ClientID: clientID, Name: "Robot's client", AuthMethod: client.AuthSecretBasic, SecretHash: &h,
		GrantTypes: []client.GrantType{client.ClientCredentials}, Resources: []string{"*"}, Service: sv.ID, Owner: owner, ManagedBy: "apply", CreatedAt: start,
	}
	r.do(client.Create{Client: c, NewService: &sv})
	return c, sv
}

func proofs(person string, credentials ...string) []assurance.Proof {
	var out []assurance.Proof
	for _, c := range credentials {
		out = append(out, assurance.Proof{Method: assurance.Passkey, Subject: person, Credential: c, At: start, UserVerified: true, PhishingResistant: true})
	}
	return out
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func hash() secret.Hash { return secret.Hash(random(32)) }

// sealer seals record keys under a key of the test process.
var sealer = func() aeadSealer {
	block, err := aes.NewCipher([]byte("countersign store tests: 32 byte"))
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aeadSealer{a}
}()

type aeadSealer struct{ cipher.AEAD }

func (a aeadSealer) Seal(plain, associated []byte) ([]byte, error) {
	nonce := random(a.NonceSize())
	return a.AEAD.Seal(nonce, nonce, plain, associated), nil
}

func (a aeadSealer) Open(sealed, associated []byte) ([]byte, error) {
	if len(sealed) < a.NonceSize() {
		return nil, fmt.Errorf("too short")
	}
	return a.AEAD.Open(nil, sealed[:a.NonceSize()], sealed[a.NonceSize():], associated)
}

// logKey signs the checkpoints of the suite.
var logKey = ed25519.NewKeyFromSeed([]byte("countersign store tests: 32 byte"))

const origin = "id.example.com/log/1"

func vkey(t testing.TB) string { return vkeyOf(t, origin) }

func vkeyOf(t testing.TB, origin string) string {
	return must(audit.VKey(origin, logKey.Public().(ed25519.PublicKey)))(t)
}

// sequencer makes a sequencer that signs with logKey.
func sequencer(t testing.TB, s *store.Store, change func(*store.SequencerOptions)) *store.Sequencer {
	o := store.SequencerOptions{Origin: origin, Sign: func(origin string, size uint64, root [32]byte) ([]byte, error) {
		signer, err := audit.NewCheckpointSigner(origin, logKey)
		if err != nil {
			return nil, err
		}
		return audit.SignCheckpoint(signer, origin, size, root)
	}}
	if change != nil {
		change(&o)
	}
	return s.Sequencer(o)
}
