// The instrument /profile: fills the template /templates/profile.html. The template package escapes for the place a value stands in.
package main

import (
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"guests/internal/wasio"
)

const file = "/templates/profile.html"

type profile struct {
	Name    string
	Age     int
	Hobbies []string
}

func main() {
	wasio.Main(answer)
}

func answer(request wasio.Request) (string, error) {
	profile, err := read(request)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no template %s", file)
	case err != nil:
		return "", fmt.Errorf("cannot read the template %s", file)
	}
	page, err := template.New("profile").Parse(string(text))
	if err != nil {
		return "", fmt.Errorf("the template is wrong: %w", err)
	}
	var filled strings.Builder
	if err := page.Execute(&filled, profile); err != nil {
		return "", fmt.Errorf("the template is wrong: %w", err)
	}
	return filled.String(), nil
}

// An age of 0 is one nobody gave.
func read(request wasio.Request) (profile, error) {
	read := profile{Name: request.Param("name", "Anonymous")}
	if text := request.Params["age"]; text != "" {
		age, err := strconv.Atoi(text)
		if err != nil || age < 1 || age > 150 {
			return read, fmt.Errorf("'%s' is not an age; use a whole number from 1 to 150", text)
		}
		read.Age = age
	}
	for _, hobby := range strings.Split(request.Params["hobbies"], ",") {
		if hobby = strings.TrimSpace(hobby); hobby != "" {
			read.Hobbies = append(read.Hobbies, hobby)
		}
	}
	return read, nil
}
