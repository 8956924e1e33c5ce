// Package notice owns what people and machines are told of what the log says:
// which kinds of record are told to whom and in which words, what is an alert,
// the webhooks that are registered, and how far each channel has come. Sending is
// notify's; the log is audit's.
//
// There is no outbox. A channel is a cursor over the log (pipeline): what it has
// to say is made out of records when it is sent, so nothing of anybody is stored
// twice, and what was erased is not told any more. Only a delivery that failed is
// a row of its own, which names its record and nothing of its content.
package notice

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/lineage"
)

// Mail is the name of the channel to people, and Alerts that of the cursor that
// finds what is an alert. Every other channel is named by the id of its webhook, or of
// the client that is told when sessions end.
const (
	Mail   = "mail"
	Alerts = "alerts"
)

// Channel is how far a channel has come.
type Channel struct {
	Name string
	Next int64 // index in the log of the first record not looked at
}

// Delivery is a message that could not be delivered at once. What it says is made
// again out of its record each time.
type Delivery struct {
	ID       string // dlv_…
	Channel  string
	Record   string
	Person   string // to whom; "" for a webhook
	Attempts int
	NextAt   time.Time // zero: a dead letter
	MadeAt   time.Time
	Why      string // what the last attempt met, without anything of a person
}

// Dead reports whether it is not tried any more by itself.
func (d Delivery) Dead() bool { return d.NextAt.IsZero() }

// Hold says by which lease a deliverer writes. A write of a holder whose lease
// was taken changes nothing.
type Hold struct {
	Holder string
	Fence  int64
}

// Resend has a dead letter tried again, from the beginning.
type Resend struct{ ID string }

// Discard forgets a dead letter.
type Discard struct{ ID string }

// Change marks Resend as a change.
func (Resend) Change() {}

// Change marks Discard as a change.
func (Discard) Change() {}

// Webhook is a receiver of events over HTTP (Standard Webhooks 1.0).
type Webhook struct {
	ID        string // whk_…
	Name      string
	URL       string
	Events    []string // patterns, see Matches; empty: DefaultEvents
	Sealed    []byte   // the secret, sealed; see Unseal
	Before    []byte   // the secret before it, sealed; nil: none
	BeforeEnd time.Time
	ManagedBy string // "api", "console"
	CreatedAt time.Time
	Node      lineage.Node // frozen: switched off, by the receiver's 410 or by an administrator
}

// CreateWebhook registers a webhook. It hears of what is recorded from its own
// registration on.
type CreateWebhook struct{ Webhook }

// UpdateWebhook changes name, URL and events.
type UpdateWebhook struct{ Webhook }

// RotateSecret gives a webhook another secret; the one before it goes on signing
// beside it until its end.
type RotateSecret struct {
	ID        string
	Sealed    []byte
	BeforeEnd time.Time
}

// EndWebhook removes a webhook for good, with what it has not been told.
type EndWebhook struct{ ID string }

// Change marks EndWebhook as a change.
func (EndWebhook) Change() {}

// Change marks CreateWebhook as a change.
func (CreateWebhook) Change() {}

// Change marks UpdateWebhook as a change.
func (UpdateWebhook) Change() {}

// Change marks RotateSecret as a change.
func (RotateSecret) Change() {}

// Raise says that a state which an alert is about has begun; Clear, that it is
// over. Only the first Raise of a rule, and a subject, changes anything.
type Raise struct {
	Rule    string
	Subject string // of rules that stand for each of many by itself; without spaces at its ends
	Detail  string
}

// Clear says that the state of a rule, of this subject, is over.
type Clear struct{ Rule, Subject string }

// Change marks Raise as a change.
func (Raise) Change() {}

// Change marks Clear as a change.
func (Clear) Change() {}

// Standing is an alert about a state that has not ended.
type Standing struct {
	Rule     string
	Subject  string // see Raise; "" of most
	Detail   string
	RaisedAt time.Time
	Record   string // that said so
}

// Store reads what the surfaces show.
type Store interface {
	Webhook(ctx context.Context, id string) (Webhook, error)
	// Webhooks pages by key, ended ones left out.
	Webhooks(ctx context.Context, after string, n int) ([]Webhook, error)
	// DeadLetters pages by key, oldest first.
	DeadLetters(ctx context.Context, after string, n int) ([]Delivery, error)
	Delivery(ctx context.Context, id string) (Delivery, error)
	Channels(ctx context.Context) ([]Channel, error)
	Standing(ctx context.Context) ([]Standing, error)
}
