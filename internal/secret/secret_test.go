package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// canary is a text that occurs nowhere else.
const canary = "cAnArY-5f1d"

// panicking tells a second process of this test to panic with a secret.
const panicking = "PAWL_TEST_PANIC_WITH_A_SECRET"

func TestMain(m *testing.M) {
	if os.Getenv(panicking) != "" {
		panic(fmt.Errorf("use %w", carrier{Open: New(canary), hidden: New(canary)}))
	}
	os.Exit(m.Run())
}

// carrier has secrets in every kind of place that a formatter walks.
type carrier struct {
	Open    Secret
	Pointer *Secret
	List    []Secret
	ByName  map[string]Secret
	Any     any
	Nested  struct{ Deep Secret }

	hidden        Secret
	hiddenPointer *Secret
	hiddenList    []Secret
	hiddenByName  map[string]Secret
	hiddenNested  struct{ deep Secret }
	hiddenAny     any
}

type embedded struct{ Secret }

type embeddedPointer struct{ *Secret }

// Error makes a carrier an error that prints all it has, as a careless library would.
func (c carrier) Error() string { return fmt.Sprintf("%v %+v %#v", plain(c), plain(c), plain(c)) }

type plain carrier // without Error, which would print itself for ever

func full() carrier {
	s, t := New(canary), New(canary)
	c := carrier{
		Open: s, Pointer: &s, List: []Secret{s, t}, ByName: map[string]Secret{"a": s}, Any: s,
		hidden: s, hiddenPointer: &s, hiddenList: []Secret{s, t}, hiddenByName: map[string]Secret{"a": s}, hiddenAny: s,
	}
	c.Nested.Deep, c.hiddenNested.deep = s, s
	return c
}

// shapes are the things that are handed to formatters.
func shapes() map[string]any {
	s, c := New(canary), plain(full())
	return map[string]any{
		"secret": s, "pointer": &s, "list": []Secret{s}, "array": [1]Secret{s}, "map": map[string]Secret{"k": s},
		"key": map[Secret]int{s: 1}, "struct": c, "struct pointer": &c, "any": []any{s, &s, c},
		"embedded": embedded{s}, "embedded pointer": embeddedPointer{&s}, "error": full(),
	}
}

func clean(t *testing.T, how, text string) {
	t.Helper()
	if strings.Contains(strings.ToLower(text), strings.ToLower(canary)) {
		t.Errorf("%s leaks the secret: %s", how, text)
	}
	// %x and %q would hide it from the line above.
	for _, disguise := range []string{fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(text, disguise) {
			t.Errorf("%s leaks the secret in disguise: %s", how, text)
		}
	}
}

func TestNoVerbLeaks(t *testing.T) {
	flags := []string{"", "+", "#", "-", " ", "0", "+#", "#+ 0-", "80", ".3", "*"}
	for name, shape := range shapes() {
		for verb := 'A'; verb <= 'z'; verb++ {
			for _, flag := range flags {
				format := "%" + flag + string(verb)
				clean(t, name+" by "+format, fmt.Sprintf(format, shape))
			}
		}
		clean(t, name+" by Sprint", fmt.Sprint(shape)+fmt.Sprintln(shape))
	}
}

func TestPrintsRedacted(t *testing.T) {
	s := New(canary)
	for _, text := range []string{
		s.String(), s.GoString(), s.LogValue().String(),
		fmt.Sprint(s), fmt.Sprint(&s), fmt.Sprintf("%v", s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%d", s), fmt.Sprintf("%x", s),
	} {
		if text != Redacted {
			t.Errorf("printed %q, want %q", text, Redacted)
		}
	}
	if got, want := fmt.Sprintf("%+v", struct{ Token Secret }{s}), "{Token:"+Redacted+"}"; got != want {
		t.Errorf("a field printed %q, want %q", got, want)
	}
	if got := fmt.Sprint(Secret{}); got != Redacted {
		t.Errorf("no secret prints %q: whether there is one is nobody's business either", got)
	}
}

func TestNoLogLeaks(t *testing.T) {
	var out bytes.Buffer
	options := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	handlers := map[string]slog.Handler{"text": slog.NewTextHandler(&out, options), "json": slog.NewJSONHandler(&out, options)}
	for kind, handler := range handlers {
		for name, shape := range shapes() {
			out.Reset()
			logger := slog.New(handler)
			logger.With("with", shape).WithGroup("group").Debug("message", "value", shape, slog.Group("inner", "value", shape))
			logger.Info(fmt.Sprint(shape))
			if out.Len() == 0 {
				t.Errorf("the %s handler wrote nothing", kind)
			}
			clean(t, "the "+kind+" handler with "+name, out.String())
		}
	}
	out.Reset()
	slog.New(handlers["json"]).Info("message", "token", New(canary))
	if !strings.Contains(out.String(), `"token":"`+Redacted+`"`) {
		t.Errorf("logged %s", out.String())
	}
	out.Reset()
	log.New(&out, "", 0).Println(New(canary), full())
	clean(t, "package log", out.String())
}

func TestNoMarshallerLeaks(t *testing.T) {
	marshallers := map[string]func(any) ([]byte, error){
		"json":   json.Marshal,
		"indent": func(v any) ([]byte, error) { return json.MarshalIndent(v, "", " ") },
		"yaml":   yaml.Marshal,
		"xml":    xml.Marshal,
		"gob": func(v any) ([]byte, error) {
			var out bytes.Buffer
			err := gob.NewEncoder(&out).Encode(v)
			return out.Bytes(), err
		},
	}
	for kind, marshal := range marshallers {
		for name, shape := range shapes() {
			text, err := marshal(shape) // some shapes cannot be marshalled; then the error must not leak
			clean(t, kind+" of "+name, string(text)+fmt.Sprint(err))
		}
	}
	for kind, want := range map[string]string{"json": `{"Token":"` + Redacted + `"}`, "yaml": "token: '" + Redacted + "'\n"} {
		text, err := marshallers[kind](struct{ Token Secret }{New(canary)})
		if err != nil || string(text) != want {
			t.Errorf("%s wrote %q, %v; want %q", kind, text, err, want)
		}
	}
}

func TestNoErrorLeaks(t *testing.T) {
	for name, shape := range shapes() {
		err := fmt.Errorf("log in with %v: %w", shape, errors.Join(full(), fmt.Errorf("token %q %s", shape, shape)))
		clean(t, "an error around "+name, fmt.Sprintf("%s %v %+v %#v %q", err, err, err, err, err))
	}
}

// A crash prints values and the arguments of every call on the stack.
func TestNoPanicLeaks(t *testing.T) {
	again := exec.Command(os.Args[0])
	again.Env = append(os.Environ(), panicking+"=1", "GOTRACEBACK=system")
	out, err := again.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("panic: ")) {
		t.Fatalf("the second process did not panic: %v\n%s", err, out)
	}
	clean(t, "a panic", string(out))
}

func TestReveal(t *testing.T) {
	s := New(canary)
	if s.Reveal() != canary || s.Empty() {
		t.Error("the one who needs it must get it")
	}
	if none := New(""); none != (Secret{}) || none.Reveal() != "" || !none.Empty() {
		t.Error("the empty text is no secret")
	}
	if copied := s; copied != s || New(canary) == s {
		t.Error("a secret equals its copies, and nothing else of the same text: comparing tells nothing")
	}
}
