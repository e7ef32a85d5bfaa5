// The instrument /time_utils: what time it is, and what follows from it. Its own copy of the time zones makes `tz` the same everywhere.
//
// `at` takes the place of now, so that answers can be compared.
package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata"

	"guests/internal/wasio"
)

const ops = "unix, iso, rfc822, add, diff, weekday, year, month, day"

func main() {
	wasio.Main(answer)
}

func answer(request wasio.Request) (string, error) {
	zone, err := time.LoadLocation(request.Param("tz", "UTC"))
	if err != nil {
		return "", fmt.Errorf("unknown time zone '%s'; use one such as UTC or Europe/Berlin", request.Params["tz"])
	}
	now := time.Now()
	if at := request.Params["at"]; at != "" {
		if now, err = instant(at, zone); err != nil {
			return "", err
		}
	}
	result, err := apply(now.In(zone), request)
	return result + "\n", err
}

func apply(now time.Time, request wasio.Request) (string, error) {
	shown := func(moment time.Time, layout string) (string, error) {
		return format(moment, request.Param("format", layout)), nil
	}
	switch op := strings.ToLower(request.Param("op", "iso")); op {
	case "unix":
		return strconv.FormatInt(now.Unix(), 10), nil
	case "iso":
		return shown(now, time.RFC3339)
	case "rfc822":
		return shown(now, time.RFC822)
	case "add":
		text, err := request.Need("duration")
		if err != nil {
			return "", err
		}
		duration, err := time.ParseDuration(text)
		if err != nil {
			return "", fmt.Errorf("'%s' is not a duration; use one such as 90s, 1h30m or -24h", text)
		}
		return shown(now.Add(duration), time.RFC3339)
	case "diff":
		text, err := request.Need("target")
		if err != nil {
			return "", err
		}
		target, err := instant(text, now.Location())
		return target.Sub(now).Round(time.Second).String(), err
	case "weekday":
		return now.Weekday().String(), nil
	case "year":
		return strconv.Itoa(now.Year()), nil
	case "month":
		return now.Month().String(), nil
	case "day":
		return strconv.Itoa(now.Day()), nil
	default:
		return "", wasio.UnknownOp(op, ops)
	}
}

// Seconds since 1970, RFC 3339, or a date, which begins at midnight in `zone`.
func instant(text string, zone *time.Location) (time.Time, error) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if moment, err := time.ParseInLocation(layout, text, zone); err == nil {
			return moment, nil
		}
	}
	return time.Time{}, fmt.Errorf("'%s' is not a time; use one such as 2026-01-31, 2026-01-31T12:00:00Z or 1769860800", text)
}

// What the letters of strftime stand for.
var letters = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'j': "002", 'I': "03", 'p': "PM",
	'A': "Monday", 'a': "Mon", 'B': "January", 'b': "Jan", 'Z': "MST", 'z': "-0700", 'e': "_2", 'F': "2006-01-02", 'T': "15:04:05",
}

// Go's layouts, and those of strftime, which have a percent sign.
func format(moment time.Time, layout string) string {
	if !strings.Contains(layout, "%") {
		return moment.Format(layout)
	}
	var text strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			text.WriteByte(layout[i])
			continue
		}
		i++
		switch known := letters[layout[i]]; {
		case known != "":
			text.WriteString(moment.Format(known))
		case layout[i] == '%':
			text.WriteByte('%')
		default:
			text.WriteString(layout[i-1 : i+1])
		}
	}
	return text.String()
}
