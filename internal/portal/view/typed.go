package view

import "time"

// Typed asks for what is typed: a password, and where somebody is signed in
// already their code with it. Its form posts username, password and code.
type Typed struct {
	Form     Form
	Username Input
	Wrong    string // what was wrong with what was sent; "" for nothing
	Left     int    // tries that are left after something wrong; 0: not said
	Code     bool   // ask for the code on the same page, and not who it is
}

// Code asks for the code of an authenticator app, after the password. Its form
// posts code.
type Code struct {
	narrow
	Form     Form
	Account  string
	Wrong    string
	Left     int
	Until    time.Time // too many attempts: the next is looked at then
	Off      bool      // too many in a row: this way is off from here
	Other    string    // URL of another way to sign in
	Deadline Deadline
}

// Title implements View.
func (m Code) Title() string {
	switch {
	case m.Off || !m.Until.IsZero():
		return "Too many attempts – Enter your code"
	case m.Wrong != "":
		return "Wrong code – Enter your code"
	}
	return "Enter your code"
}

// NewPassword is where somebody chooses a password. Its form posts password and,
// with Joining, display_name and username.
type NewPassword struct {
	narrow
	Form     Form
	Account  string
	Joining  bool  // an account is made with it
	Name     Input // Joining
	Username Input // Joining
	Password Input // never has a value
	Least    int   // characters
	Setup    bool  // show "Step 2 of 4"
	Replaces bool  // there is one already
	Back     string
	Deadline Deadline
}

// Title implements View.
func (m NewPassword) Title() string {
	s := "Choose a password"
	if m.Replaces {
		s = "Change your password"
	}
	if countWrong([]Input{m.Name, m.Username, m.Password}) > 0 {
		return "Check your answers – " + s
	}
	return s
}

// NewApp is where somebody adds an authenticator app. Its form posts code and,
// with Name, app_name.
type NewApp struct {
	narrow
	Form     Form
	Account  string
	Path     string // of the QR code, in unit squares
	Width    int
	Secret   string // the same as text
	URI      string // the same for an app on this device
	Name     Input
	Named    bool // ask for a name
	Code     Input
	Setup    bool   // show "Step 2 of 4"
	Why      string // why it is asked for now; "" if that is plain
	Back     string
	Deadline Deadline
}

// Title implements View.
func (m NewApp) Title() string {
	if m.Code.Error != "" {
		return "Wrong code – Add an authenticator app"
	}
	return "Add an authenticator app"
}

// Method is a way to sign in that is no passkey.
type Method struct {
	Name       string
	App        bool // an authenticator app, else the password
	AddedAt    time.Time
	LastUsedAt time.Time
	Here       bool // this session was begun with it
	Rename     Form // of an app
	NewName    Input
	ChangeURL  string // of the password
	RemoveURL  string
}

func (k Method) newName() Input {
	if k.NewName.Error == "" {
		return Input{Value: k.Name}
	}
	return k.NewName
}

// tries is "1 try left".
func tries(n int) string {
	if n == 1 {
		return "1 try left."
	}
	return intText(n) + " tries left."
}

// wrongWords is what was wrong with how many tries are left.
func wrongWords(wrong string, left int) string {
	if wrong == "" || left <= 0 {
		return wrong
	}
	return wrong + " " + tries(left)
}
