package grant

import (
	"time"

	"github.com/countersign-dev/countersign/internal/lineage"
)

// MaxActors is how many actors may stand between a subject and who holds a token
// in its name; beyond it nothing is exchanged (product, RFC 8693 §4.1).
const MaxActors = 4

// Delegation is that a client's service acts in the name of a subject, by token
// exchange (RFC 8693): one for each credential that is exchanged and each client
// that exchanges it. What was exchanged hangs on it, so ending it ends what that
// client got, and ending the credential ends it with all below (mechanisms C1,
// C2).
type Delegation struct {
	ID        string // dlg_…, the lineage node
	Parent    string // what the exchanged token hung on: family, grant, delegation, client
	Grant     string // of the person at the root, gnt_…; "" if the subject is a service
	Subject   string // person or service at the root, by id
	Origin    string // cli_… that the first token of the chain was given to
	Client    string // cli_… that exchanged
	Actor     string // its service, svc_…
	Depth     int    // actors, this one included
	CreatedAt time.Time
	Node      lineage.Node
}

// Delegate makes a delegation; its node descends from what is exchanged and from
// the client. It holds only while no other of the two has not ended.
type Delegate struct{ Delegation }

// Change marks Delegate as a change.
func (Delegate) Change() {}
