package view

import (
	"strings"
	"time"
)

// Apps is the administrators' page of the apps that nobody registered here.
type Apps struct {
	broad
	Documents Documents
	Itself    bool     // apps may register themselves
	May       []string // what they may ask for, a line each
	Items     []AppGroup
	Rules     []AppRule
	Pins      []AppPin
	PinURL    string
	Newer     string
	Older     string
}

// Documents is whose descriptions of themselves are taken.
type Documents int

// Whose.
const (
	NoDocuments Documents = iota
	ListedDocuments
	AnyDocuments
)

// Title implements View.
func (Apps) Title() string { return "Apps nobody registered" }

// AppGroup is a domain whose apps describe themselves, or apps that registered
// themselves in the same words.
type AppGroup struct {
	Name    string // what the newest calls itself
	Domain  string // "" for who registered themselves
	Print   string // of these, the fingerprint of the group
	Apps    int
	People  int
	UsedAt  time.Time // zero: never
	Trust   AppTrust
	URL     string
	Changes []Link // what can be done about the group, each a page that asks first
}

// AppTrust is what administrators say of a group.
type AppTrust int

// What.
const (
	Unjudged AppTrust = iota
	AllowedApp
	TrustedApp
	BlockedApp
)

// AppRule is what was said of a domain or group.
type AppRule struct {
	Name      string
	Group     string // a domain, *.domain, or a fingerprint
	Trust     AppTrust
	At        time.Time
	ChangeURL string // takes it back
}

// AppPin is a description that is kept here.
type AppPin struct {
	Name      string
	ClientID  string
	At        time.Time
	ChangeURL string // unpins
}

// AppDetail is one group, with its apps and who uses them.
type AppDetail struct {
	broad
	AppGroup
	May  []string
	Apps []AppRow
	Uses []AppUse
	More bool // there are more of either
	Back string
}

// Title implements View.
func (m AppDetail) Title() string { return name(m.Name) + " – Apps nobody registered" }

// AppRow is an app of a group.
type AppRow struct {
	Name      string
	ClientID  string
	To        []string // hosts that its answers go to
	Since     time.Time
	Stopped   bool
	Pinned    bool
	RemoveURL string
}

// AppUse is somebody who allowed an app of the group something.
type AppUse struct {
	Person      string
	App         string
	Permissions []string
	Since       time.Time
	UsedAt      time.Time // zero: never
}

// AppChange asks before something is done about apps. It posts what its form holds,
// and document where Document is not nil.
type AppChange struct {
	broad
	Verb     string // "Block"
	What     string // "apps of editor.example.com"
	Leads    []string
	Danger   bool
	Document *Input
	Form     Form
	Back     string
}

// Title implements View.
func (m AppChange) Title() string {
	if m.Document != nil && m.Document.Error != "" {
		return "Check your answer – " + m.Verb + " " + m.What
	}
	return m.Verb + " " + Visible(m.What, nameLimit) + "?"
}

func (g AppGroup) kind() string {
	if g.Domain != "" {
		return "Describes itself at " + Visible(g.Domain, nameLimit)
	}
	return "Registered itself"
}

// short is enough of a fingerprint to tell two apart.
func short(print string) string { return print[:min(len(print), 10)] }

func hosts(list []string) string { return Visible(strings.Join(list, ", "), 200) }
