package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/store"
)

// Ready says why the server should get no requests; nil if it should.
func (s *Server) Ready(ctx context.Context) error {
	if !s.ready.Load() {
		return errors.New("starting or stopping")
	}
	if why := s.Quarantined(); why != "" {
		return fmt.Errorf("in quarantine: %s; countersignd quarantine status says what to do", why)
	}
	if err := s.clock.fault(); err != nil {
		return err
	}
	if s.Store.Room() == store.ReserveUsed {
		return errDisk
	}
	if err := s.seq.Fault(); err != nil {
		return fmt.Errorf("the audit log stands still: %w", err)
	}
	if err := s.watch.Err(); err != nil {
		return err
	}
	if _, err := s.Store.Deployment(ctx); err != nil {
		return fmt.Errorf("the database does not answer: %w", err)
	}
	return nil
}

// Listeners are the sockets of a server.
type Listeners struct {
	Public     net.Listener
	MTLS       net.Listener // asks for a certificate; nil: none
	Operations net.Listener // nil: none
}

// Listen opens the sockets that the configuration names.
func Listen(cfg *config.Config) (Listeners, error) {
	pub, err := net.Listen("tcp", cfg.Listen.Address)
	if err != nil {
		return Listeners{}, err
	}
	l := Listeners{Public: pub}
	if cfg.MTLS.Address != "" {
		if l.MTLS, err = listenMTLS(cfg.MTLS); err != nil {
			return Listeners{}, errors.Join(err, pub.Close())
		}
	}
	if cfg.Operations.Address != "" {
		if l.Operations, err = net.Listen("tcp", cfg.Operations.Address); err != nil {
			if l.MTLS != nil {
				err = errors.Join(err, l.MTLS.Close())
			}
			return Listeners{}, errors.Join(err, pub.Close())
		}
	}
	return l, nil
}

// Run serves until ctx ends, then lets requests under way finish. It ends with
// ErrEpoch when the deployment is to be opened anew and served on: it has begun another
// epoch, or, with a *Gone, its database has gone back in time.
func (s *Server) Run(ctx context.Context, l Listeners) error {
	h, err := s.Handler()
	if err != nil {
		return err
	}
	s.compareBeside(ctx)
	s.compareOutside(ctx)
	settled := s.keepLost(ctx)
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	for _, loop := range []func(context.Context){
		s.hub.Run, s.notices.Run, s.housekeeping, s.countRefusals, s.reloadKeys, s.tendReserve, s.tendAnchor, s.tellRefused,
		s.watchLog, s.showLog, s.tendClock, s.tendPlaces, s.lookAtDevices, s.tendRollout,
	} {
		wg.Go(func() { loop(loops) })
	}
	unsequence := s.background(ctx, s.sequence(settled))
	defer unsequence()
	pub := s.httpServer(h)
	errs := make(chan error, 3)
	public := l.Public
	if s.Config.Listen.TLS.CertFile != "" {
		if public, err = overTLS(public, s.Config.Listen.TLS, tls.NoClientCert); err != nil {
			return err
		}
	}
	go func() { errs <- pub.Serve(public) }()
	mutual, err := s.serveMTLS(l.MTLS, errs)
	if err != nil {
		return errors.Join(err, pub.Close())
	}
	moved := make(chan error, 1)
	wg.Go(func() {
		var once sync.Once
		s.watchStanding(loops, func(why error) { once.Do(func() { moved <- why }) })
	})
	ops := &http.Server{Handler: s.Operations(), ReadHeaderTimeout: 10 * time.Second}
	if l.Operations != nil {
		go func() { errs <- ops.Serve(l.Operations) }()
	}
	s.ready.Store(true)
	select {
	case err = <-errs:
	case err = <-moved:
	case <-ctx.Done():
		err = nil
	}
	s.ready.Store(false)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), config.ShutdownGrace)
	defer cancel()
	stop() // streams end, so that Shutdown does not wait for them
	err = errors.Join(err, pub.Shutdown(grace), mutual.Shutdown(grace), ops.Shutdown(grace))
	wg.Wait()
	if e := s.closeWriter(grace); e != nil {
		s.log.Warn("vouch for what was written", "err", e)
	}
	unsequence() // the last: what was committed is signed
	if err == nil {
		s.stopped()
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// httpServer is a server of clients: its times and sizes are bounded.
func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// background runs a loop until stop is called, which waits for its end.
func (s *Server) background(ctx context.Context, loop func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() { defer close(ended); loop(ctx) }()
	return func() { cancel(); <-ended }
}

// every runs f at each interval until ctx ends.
func every(ctx context.Context, d time.Duration, f func(context.Context)) {
	everyOr(ctx, d, nil, f)
}

// everyOr runs f at each interval, and whenever it is woken, until ctx ends.
func everyOr(ctx context.Context, d time.Duration, wake <-chan struct{}, f func(context.Context)) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-wake:
		}
		f(ctx)
	}
}

// housekeeping deletes what expired, in small batches.
func (s *Server) housekeeping(ctx context.Context) {
	s.markSetup(ctx)
	every(ctx, time.Minute, func(ctx context.Context) {
		s.markSetup(ctx)
		if err := s.Store.DeleteExpired(ctx, s.clock.lasting()); err != nil && ctx.Err() == nil {
			s.log.Warn("delete what expired", "err", err)
		}
	})
}

// markSetup says beside the database that set-up was done: an empty database in
// its place is then refused (mechanisms I4).
func (s *Server) markSetup(ctx context.Context) {
	if s.marked {
		return
	}
	done, err := s.Store.SetUp(ctx)
	if err == nil && done.Done {
		err = file.Replace(s.setupMarker(), []byte(done.At.UTC().Format(time.RFC3339)+"\n"), 0o600)
		s.marked = err == nil
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("mark that set-up is done", "err", err)
	}
}

// countRefusals writes the totals of refusals of unknown callers each minute:
// they can never fill the log (mechanisms E5).
func (s *Server) countRefusals(ctx context.Context) {
	flush := func(ctx context.Context) {
		for _, rec := range s.counters.Flush(s.now()) {
			_, err := s.Do.Do(ctx, act.Intent{
				Action: policy.Refusals, Kind: audit.RefusalsCounted, Refs: system(),
				Changes: func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Parts: rec.Parts}, nil },
			})
			if err != nil && ctx.Err() == nil {
				s.log.Warn("record the refusals", "err", err)
			}
		}
	}
	every(ctx, time.Minute, flush)
}

// reloadKeys sees the rotations of other replicas.
func (s *Server) reloadKeys(ctx context.Context) {
	every(ctx, 30*time.Second, func(ctx context.Context) {
		if err := s.Ring.Reload(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("read the keys", "err", err)
		}
	})
}

// certificates serves a TLS certificate from files and reads them again when
// they change.
type certificates struct {
	cert, key string
	mu        sync.Mutex
	loaded    *tls.Certificate
	changed   time.Time
	checked   time.Time
}

func (c *certificates) load() error {
	st, err := os.Stat(c.cert)
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	if ks, err := os.Stat(c.key); err != nil {
		return fmt.Errorf("TLS key: %w", err)
	} else if ks.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("TLS key: %s can be read by others; run: chmod 600 %s", c.key, c.key)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	c.loaded, c.changed, c.checked = &pair, st.ModTime(), time.Now()
	return nil
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > 5*time.Second {
		c.checked = time.Now()
		if st, err := os.Stat(c.cert); err == nil && !st.ModTime().Equal(c.changed) {
			if err := c.load(); err != nil {
				slog.Error("the new TLS certificate cannot be used; the old one stays", "err", err)
			}
		}
	}
	return c.loaded, nil
}
