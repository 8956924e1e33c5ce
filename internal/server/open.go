// Package server builds everything and mounts the routes. It has no rules of its
// own: which surface sees which store, which loop runs, what a first start makes.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/feed"
	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/oauth"
	"github.com/countersign-dev/countersign/internal/pdp"
	"github.com/countersign-dev/countersign/internal/places"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/postgres"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
	"github.com/countersign-dev/countersign/internal/web"
)

// Options are what the command line adds to the configuration.
type Options struct {
	Log     *slog.Logger
	Migrate bool             // bring an older database up to date
	Now     func() time.Time // nil: time.Now
	// Reserve is how many bytes are kept for the log on the disk of an embedded
	// database; 0: 64 MiB, none in development mode.
	Reserve int64
	// KEK is the key-encryption key, if it is not in the file that the
	// configuration names.
	KEK *hsm.File
	// AcceptTime accepts the clock as it is, whatever the time floor and the
	// database's clock say (mechanisms I15).
	AcceptTime bool
	// Aside opens a copy only to look at it: nothing is made that it lacks, and the
	// configuration need not be its own.
	Aside bool
	// Gone is why the server that ran before took its database for one that has gone
	// back in time (Gone): this one begins in quarantine.
	Gone string
}

// State is an opened deployment without its surfaces: what the commands of
// countersignd work on.
type State struct {
	Config   *config.Config
	Store    *store.Store
	Ring     *keyring.Ring
	Do       *act.Doer
	Names    *store.RecordKeys
	Sealer   keyring.Sealer // the key-encryption key
	log      *slog.Logger
	now      func() time.Time // never behind the time floor
	places   *places.Map      // nil: nobody knows where a network is
	clock    *clock
	tree     store.Epoch // of the log, the one that grows
	epoch    int64       // that the deployment was opened in
	since    time.Time   // when that epoch began; zero for the first
	standing atomic.Pointer[standing]
	keys     atomic.Int64 // version of the keys that were read
	gone     string       // Options.Gone

	policies atomic.Pointer[store.Policies] // as this process knows them
	book     *ruleset.Book
	desk     *ruleset.Desk
	cost     chan struct{} // a rollout cost somebody something
	pulse    store.Pulse   // of who served before, read before this process wrote anything

	// Of the log.
	seen   []byte // the newest checkpoint before this process wrote anything, nil if there was none
	closed bool   // this process has vouched for all it wrote, and ended
}

// OpenState opens the database and the keys; it makes what a new deployment
// needs: its identity, keys, built-in groups, resources and clients.
func OpenState(ctx context.Context, cfg *config.Config, o Options) (*State, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	clock := newClock(o.Now)
	o.Now = clock.now // for everybody below
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	st, err := openStore(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	s := &State{Config: cfg, Store: st, log: o.Log, now: clock.now, clock: clock, gone: o.Gone}
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return s, nil
}

func openStore(ctx context.Context, cfg *config.Config, o Options) (*store.Store, error) {
	if cfg.Database.Postgres != "" {
		return postgres.Open(ctx, postgres.Options{
			DSN: cfg.Database.Postgres, Migrate: o.Migrate, Conns: cfg.Database.MaxConnections,
			AcceptDataLoss: cfg.Database.AcceptDataLossOnFailover, Now: o.Now,
		})
	}
	if o.Reserve == 0 && !cfg.Development {
		o.Reserve = defaultReserve
	}
	return sqlite.Open(ctx, sqlite.Options{Path: cfg.Database.SQLite, Migrate: o.Migrate, Reserve: o.Reserve, Now: o.Now})
}

func (s *State) open(ctx context.Context, o Options) (err error) {
	if s.pulse, err = s.Store.Pulse(ctx); err != nil {
		return err
	}
	if _, s.seen, err = s.Store.LastCheckpoint(ctx); err != nil && !errors.Is(err, problemNotFound) {
		return err
	}
	if err := s.readClock(ctx, o); err != nil {
		return err
	}
	dep, err := s.Store.Deployment(ctx)
	fresh := errors.Is(err, problemNotFound)
	if err != nil && !fresh {
		return err
	}
	if !o.Aside {
		if err := s.checkDeployment(dep, fresh); err != nil {
			return err
		}
	}
	kek := o.KEK
	switch {
	case kek != nil:
	case fresh:
		kek, err = hsm.OpenOrCreateFile(s.Config.Keys.KEKFile)
	default:
		kek, err = hsm.OpenFile(s.Config.Keys.KEKFile)
	}
	if err != nil {
		return err
	}
	if s.Ring, err = keyring.Open(ctx, s.Store, kek, s.now); err != nil {
		return err
	}
	s.Names, s.Sealer = s.Store.RecordKeys(kek), kek
	s.Do = &act.Doer{
		Store: floored{s.Store, s.clock}, Policy: policy.Builtin(), Ladder: assurance.Default(), Writer: audit.NewWriter(), Keys: s.Names, Now: s.now,
		Reviews: review.Book{Store: s.Store}, ManagesDevices: s.Config.Devices.Managed,
	}
	s.book = &ruleset.Book{Store: s.Store, Rollouts: s.Store}
	s.desk = &ruleset.Desk{Issuer: s.Config.Issuer, Publications: s.Store, Rollouts: s.Store, Group: func(ctx context.Context, name string) error {
		return group.CheckLive(ctx, s.Store, name)
	}}
	s.cost = make(chan struct{}, 1)
	s.Do.Rulesets, s.Do.Candidates, s.Do.Cost = s.book.Set, s.book.Candidate, s.noteCost
	if !o.Aside {
		if err := s.scoreRisk(); err != nil {
			return err
		}
	}
	if fresh {
		if err := errors.Join(s.Store.LookAtPlace(ctx), s.found(ctx)); err != nil {
			return err
		}
	}
	if dep, err = s.Store.Deployment(ctx); err != nil {
		return err
	}
	s.epoch, s.since = dep.Epoch, dep.EpochAt
	if err := s.look(ctx); err != nil {
		return err
	}
	if err := s.readEpoch(ctx); err != nil {
		return err
	}
	if o.Aside {
		return nil
	}
	if err := s.acceptTime(ctx, o); err != nil {
		return err
	}
	if err := s.builtIns(ctx); err != nil || !fresh {
		return err
	}
	return s.keepAnchor(ctx)
}

// checkDeployment refuses a database that belongs to something else (mechanisms
// I5, I24).
func (s *State) checkDeployment(d store.Deployment, fresh bool) error {
	if fresh {
		if _, err := os.Stat(s.setupMarker()); err == nil {
			return fmt.Errorf("the database is empty, but %s says that this deployment was set up: restore the database, or remove that file if this is a new deployment", s.setupMarker())
		}
		return nil
	}
	if d.Born == store.BornDevelopment && d.AdoptedAt.IsZero() && !s.Config.Development {
		return errors.New("this database was made in development mode and cannot be served: its keys and people are samples. Start with an empty database, or see countersignd adopt --help")
	}
	if (d.Born == store.BornProduction || !d.AdoptedAt.IsZero()) && s.Config.Development {
		return errors.New("this database belongs to a real deployment; development mode refuses it")
	}
	if d.Issuer != s.Config.Issuer {
		return fmt.Errorf("this database belongs to the issuer %s, the configuration says %s: passkeys and tokens of one are worth nothing at the other; to move it: countersignd rename-issuer --to %[2]s", d.Issuer, s.Config.Issuer)
	}
	return nil
}

// setupMarker is the side file that says set-up was done (mechanisms I4).
func (s *State) setupMarker() string { return filepath.Join(s.Config.DataDir, "setup-done") }

// Close vouches for what this process wrote, and releases the database.
func (s *State) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.closeWriter(ctx); err != nil {
		s.log.Warn("vouch for what was written", "err", err)
	}
	err := s.Store.Close()
	if s.places != nil {
		err = errors.Join(err, s.places.Close())
	}
	return err
}

// Server is a deployment with its surfaces and loops.
type Server struct {
	*State
	seq       *store.Sequencer
	hub       *feed.Hub
	oauth     *oauth.Server
	portal    *portal.Server
	admin     *admin.API
	pdp       *pdp.Server
	proxies   *web.Proxies
	notices   *notify.Notifier
	counters  *audit.Counters
	metrics   *metrics
	wrong     *prometheus.CounterVec // proofs, by way
	lanes     *lanes
	passwords *factor.Passwords
	ready     atomic.Bool
	marked    bool        // the side file says that set-up was done
	placed    store.Place // where the database is known to remember that it is

	// Of the log.
	watch   watch
	outside *outsiders
	began   time.Time

	policyFault atomic.Pointer[policyFault]
}

// New builds the server over an opened state.
func New(st *State) (*Server, error) {
	s := &Server{State: st, lanes: newLanes(), counters: audit.NewCounters(1000), began: st.now()}
	s.Do.Refused = func(action policy.Action, code string) {
		s.counters.Count(st.now(), string(action)+" "+code, "unknown")
	}
	if err := errors.Join(st.checkDatabase(context.Background()), st.checkAnchor(context.Background())); err != nil {
		return nil, err
	}
	s.Do.Failed = s.policyFailed
	s.wrong = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "countersign_wrong_proofs_total", Help: "Proofs that were wrong, by this process."}, []string{"way"})
	s.Do.Wrong = func(w act.Way) { s.wrong.WithLabelValues(string(w)).Inc() }
	var err error
	if s.proxies, err = web.NewProxies(st.Config.Proxy.Trusted, proxyHeader(st.Config.Proxy.Header)); err != nil {
		return nil, err
	}
	if s.outside, err = st.readOutsiders(); err != nil {
		return nil, err
	}
	s.hub = s.newFeed()
	if s.seq, err = st.Sequencer(s.keepCheckpoint, func(uint64) { s.hub.Wake(); s.notices.Wake() }); err != nil {
		return nil, err
	}
	if s.notices, err = s.newNotifier(); err != nil {
		return nil, err
	}
	s.Do.Checkpoint = s.seq.CheckpointNow
	ceremony, err := factor.NewCeremony(st.Config.RPID, st.Config.Issuer, st.Ring.Nonces)
	if err != nil {
		return nil, err
	}
	known, agreed, strange, err := st.keyFetchers()
	if err != nil {
		return nil, err
	}
	anchors, err := st.Config.MTLS.Anchors()
	if err != nil {
		return nil, err
	}
	s.oauth = &oauth.Server{
		Issuer: st.Config.Issuer, Do: st.Do, Clients: st.Store, Resources: st.Store, Issuers: st.Store, Grants: st.Store, Admissions: st.Store, State: liveState{st.Store},
		Keys: st.Ring, Ladder: st.Do.Ladder, Ahead: st.refreshAhead, Since: st.since, ClientAddr: web.ClientAddr, Now: st.now,
		Published: known, Agreed: agreed, Announced: strange, Certificates: web.Certificates, Anchors: anchors, MTLS: st.Config.MTLS.URL, Origin: web.OriginOf,
		Device: st.Config.DeviceAuthorization.Enabled, DeviceNear: st.Config.DeviceAuthorization.SameNetwork,
		Backchannel: st.Config.Backchannel.Enabled, People: st.Store,
	}
	block, err := blocklist(st.Config)
	if err != nil {
		return nil, err
	}
	s.passwords = factor.NewPasswords(st.Sealer, block)
	s.portal = &portal.Server{
		Passwords: s.passwords, Codes: factor.NewCodes(st.Sealer),
		Issuer: st.Config.Issuer, Do: st.Do, Store: st.Store, Log: auditLog{st}, Oauth: s.oauth, Ceremony: ceremony,
		Ladder: st.Do.Ladder, For: oauth.For, Sealed: st.Ring, ClientAddr: web.ClientAddr, LogState: s.logState, Mails: st.Config.Mail.Host != "", Now: st.now,
		Recovery: s.recovery(), Device: st.Config.DeviceAuthorization.Enabled,
	}
	s.portal.Rollouts = &portal.Rollouts{Store: st.Store, Book: st.book, Desk: st.desk, Monitored: auditLog{st}.Monitored}
	s.oauth.Browser, s.oauth.Departure = s.portal, s.portal
	if s.oauth.Backchannel {
		s.portal.Requests = s.oauth
	}
	if s.oauth.FetchAllowed, s.oauth.Fetch, err = st.documentFetchers(); err != nil {
		return nil, err
	}
	if s.portal.Notices, err = s.noticePages(); err != nil {
		return nil, err
	}
	if s.admin, err = s.newAdmin(); err != nil {
		return nil, err
	}
	s.pdp = s.newPDP()
	s.metrics = newMetrics(s)
	return s, nil
}

// blocklist is what nobody may choose as a password: what the release knows, the
// deployment's own names, and the operator's file.
func blocklist(cfg *config.Config) (*factor.Blocklist, error) {
	b := factor.NewBlocklist(cfg.Issuer, cfg.RPID)
	if cfg.Passwords.BlockedFile == "" {
		return b, nil
	}
	f, err := os.Open(cfg.Passwords.BlockedFile)
	if err != nil {
		return nil, fmt.Errorf("passwords.blocked_file: %w", err)
	}
	defer f.Close()
	if err := b.Add(f); err != nil {
		return nil, fmt.Errorf("passwords.blocked_file: %w", err)
	}
	return b, nil
}

func proxyHeader(h string) string {
	if h == "X-Forwarded-For" {
		return web.XForwardedFor
	}
	return web.Forwarded
}

// keepCheckpoint writes each signed checkpoint to the side file: truncation of
// the database shows against it (mechanisms E13).
func (s *Server) keepCheckpoint(_ uint64, note []byte) {
	if err := file.Replace(filepath.Join(s.Config.DataDir, "checkpoint"), note, 0o600); err != nil {
		s.log.Error("keep the checkpoint", "err", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.keepAnchor(ctx); err != nil {
		s.log.Error("keep the side file", "err", err)
	}
}

var (
	_ io.Closer   = (*State)(nil)
	_ jose.KeySet = (*keyring.Ring)(nil)
)
