package view

import "time"

// Overview is the check-up: what to mend, in order, then what happened.
type Overview struct {
	broad
	Todo     []Todo  // most important first; done ones last
	Unusual  []Event // with NotMe forms
	Passkeys int
	Sessions int // live ones
	Apps     int // live grants

	Exceptions []Exception // that concern whoever looks
}

// Exception is a rule that is waived for somebody, until a time.
type Exception struct {
	Rule    string // what is waived, in the words of the rule
	Instead string // finishes "Instead, this needs …"
	Group   string // that it is for; "" if it is for the person alone
	Why     string
	Owner   string
	Until   time.Time
}

// Title implements View.
func (m Overview) Title() string {
	n := 0
	for _, t := range m.Todo {
		if !t.Done {
			n++
		}
	}
	if n > 0 {
		return plural(n, "thing") + " to do – Overview"
	}
	return "All good – Overview"
}

// Todo is one thing to mend.
type Todo struct {
	Text   string // "Add a second passkey"
	Why    string
	Takes  string // "about 30 seconds"; "" if not known
	Action Link   // ignored when Done
	Done   bool
}

// Event is a line of somebody's activity.
type Event struct {
	At        time.Time
	Text      string // a sentence: "You signed in with “Dana's laptop”."
	App       string
	Network   string
	Assurance string // in words: "passkey, verified"
	Ref       string // id of the record
	NotMe     *Form  // offers "This wasn't me"
	WasMe     *Form
}

// Activity is a page of the activity log, newest first.
type Activity struct {
	broad
	Events []Event
	Newer  string // URLs of the neighbouring pages; "" if there is none
	Older  string
}

// Title implements View.
func (m Activity) Title() string {
	if len(m.Events) == 0 {
		return "Empty – Activity"
	}
	return "Activity"
}

// Passkey is one of somebody's passkeys.
type Passkey struct {
	Name       string
	Model      string    // of the authenticator, a hint from its AAGUID; "" if unknown
	Synced     bool      // copied between devices by a password manager
	Hardware   bool      // attested: bound to hardware, and that was verified
	Counts     time.Time // on probation: it counts for two factors until then; zero: it counts for all it is
	AddedAt    time.Time
	LastUsedAt time.Time // zero: never
	Here       bool      // this session was begun with it
	Rename     Form      // posts passkey_name
	NewName    Input     // Error: what was wrong with the name just posted; Value: that name
	RemoveURL  string    // of the confirming page
}

// Passkeys lists somebody's passkeys.
type Passkeys struct {
	broad
	Items       []Passkey
	AddURL      string
	Methods     []Method // password and apps
	TypedOff    bool     // they may not be used here
	SetPassword string   // URL; "" if there is one already
	AddApp      string   // URL; "" if there is no room for one
	Signal      *Signal  // tells password managers which passkeys exist; nil: do not
}

// Title implements View.
func (Passkeys) Title() string { return "Passkeys and other ways to sign in" }

// Signal is what WebAuthn's signal methods need; all byte strings in base64url.
type Signal struct {
	RPID        string
	UserID      string
	Name        string
	DisplayName string
	Credentials []string
}

// RemovePasskey asks before a passkey goes.
type RemovePasskey struct {
	broad
	Passkey Passkey
	Other   string   // what it is, if it is no passkey: "authenticator app"
	Only    bool     // without it there is no way in: refused here, with the way out
	Weakens bool     // what is left is not phishing-resistant: the form posts weaken=yes
	Ends    []string // what ends with it, "1 session"
	Form    Form
	AddURL  string
	Back    string
}

// Title implements View.
func (m RemovePasskey) Title() string {
	if m.Only {
		return "Not possible – Remove “" + name(m.Passkey.Name) + "”"
	}
	return "Remove “" + name(m.Passkey.Name) + "”?"
}

// NodeKind is what a node of the tree is.
type NodeKind int

// The kinds, from the root down (product: lineage).
const (
	PersonNode NodeKind = iota
	DeviceNode
	SessionNode
	GrantNode
)

func (k NodeKind) word() string { return [...]string{"person", "device", "session", "app"}[k] }

func (k NodeKind) label() string { return [...]string{"Person", "Device", "Session", "App"}[k] }

func (k NodeKind) icon() string { return [...]string{"person", "device", "session", "app"}[k] }

// Node is something somebody started, with everything that came of it.
type Node struct {
	Kind       NodeKind
	Name       string // "Firefox on Linux", "countersign (command line)"
	Here       bool   // the session this page is seen with
	Scopes     []string
	Resource   string    // of a grant: the API's name
	Assurance  string    // now, in words: "passkey, verified"
	Until      time.Time // until when Assurance holds; zero: as long as the session
	Network    string    // "198.51.100.7 – Example Net"
	StartedAt  time.Time
	LastUsedAt time.Time
	ExpiresAt  time.Time
	ID         string    // of a device, to be read to whoever manages devices
	Managed    time.Time // … which is managed before; zero: it is not
	EndURL     string    // of the confirming page; "" if it cannot be ended here
	Children   []Node
}

// Ends is what ends with the node, in words: "1 session and 2 apps"; "" if
// nothing hangs below it.
func (n Node) Ends() string {
	var count [4]int
	n.count(&count)
	var parts []string
	for k := DeviceNode; k <= GrantNode; k++ {
		if count[k] > 0 {
			parts = append(parts, plural(count[k], k.word()))
		}
	}
	return list(parts)
}

func (n Node) count(c *[4]int) {
	for _, x := range n.Children {
		c[x.Kind]++
		x.count(c)
	}
}

func (n Node) empty() bool { return len(n.Children) == 0 }

// endText is what the button that ends the node says.
func (n Node) endText() string {
	switch n.Kind {
	case PersonNode:
		return "End everything"
	case GrantNode:
		return "End access"
	}
	return "End"
}

// Sessions shows the tree person → device → session → grant.
type Sessions struct {
	broad
	Root Node // of kind PersonNode
}

// Title implements View.
func (m Sessions) Title() string {
	if m.Root.empty() {
		return "Nothing running – Sessions"
	}
	return "Sessions"
}

// EndNode asks before a node and all below it ends.
type EndNode struct {
	broad
	Node Node
	Form Form
	Back string
	Gone bool      // it had already ended
	At   time.Time // Gone: when; zero: not known
}

// Title implements View.
func (m EndNode) Title() string {
	if m.Gone {
		return "Already ended – " + name(m.Node.Name)
	}
	return "End " + m.object() + "?"
}

func (m EndNode) object() string {
	switch m.Node.Kind {
	case PersonNode:
		return "everything you started"
	case GrantNode:
		return "the access of “" + name(m.Node.Name) + "”"
	case DeviceNode:
		return "everything on “" + name(m.Node.Name) + "”"
	}
	return "the session “" + name(m.Node.Name) + "”"
}
