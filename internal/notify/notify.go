// Package notify tells people and machines what the log says: mail over SMTP and
// webhooks (Standard Webhooks 1.0), each channel a cursor over the log (pipeline).
// One process of a deployment delivers, the holder of a lease; each channel runs
// by itself, so that a receiver that hangs holds up nobody else, and nothing here
// holds up the log.
//
// Delivery is at least once, with an id that stays the same: what was sent before
// a crash and not yet remembered is sent again under it. What could not be
// delivered is tried again with growing pauses, and then kept as a dead letter.
//
// Who is told of what, and in which words, is notice's; this package sends.
package notify

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/once"
)

// Book keeps how far channels have come. Every write MUST change nothing, and
// err, when the hold is not the lease's any more.
type Book interface {
	// HoldNotices takes or renews the lease; ok is false while another has it.
	HoldNotices(ctx context.Context, holder string, until time.Time) (h notice.Hold, ok bool, err error)
	ReleaseNotices(ctx context.Context, h notice.Hold) error
	// OpenChannel gives how far a channel has come; a new one begins where the log
	// ends.
	OpenChannel(ctx context.Context, h notice.Hold, name string) (next int64, err error)
	// Advance MUST move the channel and keep what was put aside in one transaction.
	Advance(ctx context.Context, h notice.Hold, channel string, from, to int64, aside []notice.Delivery) error
	Attempted(ctx context.Context, h notice.Hold, id string, again *notice.Delivery) error
	Waiting(ctx context.Context, channel string, n int) ([]notice.Delivery, error)
}

// Log reads the log.
type Log interface {
	// Events gives the events of some kinds from an index on, in order, at most n,
	// and the index to go on from. It MUST leave out what is not integrated yet.
	Events(ctx context.Context, from int64, kinds []audit.Kind, n int) (found []notice.Event, next int64, err error)
	// Event gives the event of a record; problem.NotFound if there is none.
	Event(ctx context.Context, record string) (notice.Event, error)
	// Broad gives the tokens issued within [from, to) that are unusually broad.
	Broad(ctx context.Context, from, to int64) ([]Broad, error)
}

// Broad is an unusually broad token.
type Broad struct {
	Record string
	Client string // id
	Why    string
}

// Directory finds who is told.
type Directory interface {
	Person(ctx context.Context, id string) (account.Person, error)
	// Administrators are those of the group who can be told.
	Administrators(ctx context.Context) ([]account.Person, error)
	Webhooks(ctx context.Context, after string, n int) ([]notice.Webhook, error)
	Standing(ctx context.Context) ([]notice.Standing, error)
	DeadLetters(ctx context.Context, after string, n int) ([]notice.Delivery, error)
	OnceValue(ctx context.Context, p once.Purpose, k once.Key) (once.Value, error)
}

// Config is what a Notifier works with.
type Config struct {
	Host      string // of the issuer: what people know the deployment by
	Book      Book
	Log       Log
	Directory Directory
	Do        *act.Doer
	Mail      *Mailer // nil: no mail is sent
	Hooks     *Hooks
	Apps      Apps // told when a session ends; nil: none is
	// Links gives the link that a noun puts into the message of an event to a
	// person, e.g. the one that proves an address; "" for none. It may make one.
	Links      func(ctx context.Context, e notice.Event, person, address string) (string, error)
	Conditions []Condition
	Every      time.Duration // between two looks at the conditions; 0: 10 s
	Logger     *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// Times of the loops.
const (
	leaseTime   = 10 * time.Second
	lookEvery   = time.Second            // a channel looks for news, woken or not
	restBetween = 200 * time.Millisecond // least time between two looks of a channel
	sendTime    = 15 * time.Second       // of one attempt
	mailAge     = 72 * time.Hour         // what is older is not news to a person
	page        = 100                    // events read at once
	window      = 100                    // deliveries that a channel has aside; then it waits
)

// Notifier delivers notices. Run must be running.
type Notifier struct {
	Config
	holder  string
	stats   stats
	quota   quota
	failing sync.Map // channels that cannot be used at all, since when
	direct  direct
	mu      sync.Mutex
	wakes   map[string]chan struct{}
}

// New makes a notifier.
func New(c Config) *Notifier {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Every == 0 {
		c.Every = checkEvery
	}
	var b [8]byte
	rand.Read(b[:])
	return &Notifier{Config: c, holder: hex.EncodeToString(b[:]), wakes: map[string]chan struct{}{}}
}

// Wake has the channels look for news soon. It never blocks.
func (n *Notifier) Wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.wakes {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Run delivers while this process holds the lease, until ctx ends, and then gives
// the lease back.
func (n *Notifier) Run(ctx context.Context) {
	for ctx.Err() == nil {
		h, ok, err := n.Book.HoldNotices(ctx, n.holder, n.Now().Add(leaseTime))
		if err == nil && ok {
			n.serve(ctx, h)
			continue
		}
		if err != nil && ctx.Err() == nil {
			n.Logger.Warn("take the lease of notices", "err", err)
		}
		pause(ctx, leaseTime/4)
	}
}

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// serve runs the channels under a lease until it is lost or ctx ends.
func (n *Notifier) serve(ctx context.Context, h notice.Hold) {
	n.stats.holds.Store(true)
	defer n.stats.holds.Store(false)
	held, lose := context.WithCancel(ctx)
	running := &team{n: n, hold: h, ctx: held, workers: map[string]*worker{}}
	var loops sync.WaitGroup
	loops.Go(func() { n.watch(held) })
	defer func() {
		lose()
		running.stop()
		loops.Wait()
		if ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := n.Book.ReleaseNotices(last, h); err != nil {
				n.Logger.Warn("give the lease of notices back", "err", err)
			}
		}
	}()
	until := n.Now().Add(leaseTime)
	for held.Err() == nil {
		if err := running.update(); err != nil && held.Err() == nil {
			n.Logger.Warn("read the webhooks", "err", err)
		}
		pause(held, 2*time.Second)
		now, ok, err := n.Book.HoldNotices(held, n.holder, n.Now().Add(leaseTime))
		switch {
		case err == nil && ok && now == h:
			until = n.Now().Add(leaseTime)
		case err == nil || n.Now().After(until): // another has it, or could
			return
		}
	}
}

// team is the workers of one lease.
type team struct {
	n       *Notifier
	hold    notice.Hold
	ctx     context.Context //nolint:containedctx // of the lease, which the team lives as long as
	workers map[string]*worker
	wg      sync.WaitGroup
}

// worker runs one channel.
type worker struct {
	version int64
	stop    context.CancelFunc
}

// update has a worker for each channel that there is, and for no other.
func (t *team) update() error {
	want := map[string]channel{}
	versions := map[string]int64{}
	want[notice.Alerts] = t.n.alertChannel()
	if t.n.Mail != nil {
		want[notice.Mail] = t.n.mailChannel()
	}
	if t.n.Apps != nil {
		apps, err := t.n.Apps.Told(t.ctx)
		if err != nil {
			return err
		}
		for _, c := range apps {
			want[c.ID], versions[c.ID] = t.n.appChannel(c), c.Node.Version
		}
	}
	if t.n.Hooks != nil {
		hooks, err := t.n.Directory.Webhooks(t.ctx, "", notice.MaxWebhooks)
		if err != nil {
			return err
		}
		for _, w := range hooks {
			if w.Node.Live() {
				want[w.ID], versions[w.ID] = t.n.hookChannel(w), w.Node.Version
			}
		}
	}
	for name, w := range t.workers {
		if _, ok := want[name]; !ok || versions[name] != w.version {
			w.stop()
			delete(t.workers, name)
		}
	}
	for name, c := range want {
		if t.workers[name] != nil {
			continue
		}
		ctx, stop := context.WithCancel(t.ctx)
		t.workers[name] = &worker{version: versions[name], stop: stop}
		t.wg.Go(func() { t.n.run(ctx, t.hold, c) })
	}
	return nil
}

func (t *team) stop() {
	for _, w := range t.workers {
		w.stop()
	}
	t.wg.Wait()
}

// direct are the records of alerts that were told without waiting for the log. While
// one is being told, the channel that finds its record in the log waits to hear of it.
type direct struct {
	mu   sync.Mutex
	told map[string]bool
}

// has reports whether an alert was told already.
func (d *direct) has(record string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told[record]
}

// tell makes the record of an alert, "" if it cannot be written, and tells of it.
func (d *direct) tell(record func() (string, error), told func(record string) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, err := record()
	if told(id) && id != "" {
		if d.told == nil {
			d.told = map[string]bool{}
		}
		d.told[id] = true
	}
	return err
}

// stats are figures for metrics.
type stats struct {
	holds     atomic.Bool
	delivered [4]atomic.Int64 // mail, webhooks, alerts, apps
	failed    [4]atomic.Int64
	skipped   atomic.Int64
	raised    atomic.Int64
	quieted   atomic.Int64
}

// Stats are figures of this process since it started.
type Stats struct {
	Delivering               bool // it holds the lease
	MailSent, MailFailed     int64
	HooksSent, HooksFailed   int64
	AppsSent, AppsFailed     int64 // logout tokens
	Skipped                  int64 // mails that were not sent: too old, or too many to one person
	AlertsRaised, AlertsHeld int64 // raised, and held back because the like was raised before
}

// Stats reads the figures.
func (n *Notifier) Stats() Stats {
	s := &n.stats
	return Stats{
		Delivering: s.holds.Load(), MailSent: s.delivered[0].Load(), MailFailed: s.failed[0].Load(),
		HooksSent: s.delivered[1].Load(), HooksFailed: s.failed[1].Load(),
		AppsSent: s.delivered[3].Load(), AppsFailed: s.failed[3].Load(), Skipped: s.skipped.Load(),
		AlertsRaised: s.raised.Load(), AlertsHeld: s.quieted.Load(),
	}
}

// errLater is in the chain of what ends a run of a channel for now.
var errLater = errors.New("notify: the channel is tried again later")
