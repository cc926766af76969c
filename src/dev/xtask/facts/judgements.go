package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand"
	"sort"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
)

const judgementCount = 1500

// judgements returns random schemas and values with what upstream prunes, defaults and objects to: gzip over records
// of schema, value, value after pruning and defaulting, pruned paths and errors (both sorted, one a line).
func judgements() []byte {
	random := rand.New(rand.NewSource(2))
	var records bytes.Buffer
	for range judgementCount {
		writeJudgement(&records, randomObjectSchema(random, 3), random)
	}
	var compressed bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	_, _ = writer.Write(records.Bytes())
	_ = writer.Close()
	return compressed.Bytes()
}

func writeJudgement(records *bytes.Buffer, tree map[string]any, random *rand.Rand) {
	var external apiextensionsv1.JSONSchemaProps
	if err := json.Unmarshal([]byte(jsonText(tree)), &external); err != nil {
		fatal("%v", err)
	}
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&external, &internal, nil); err != nil {
		fatal("%v", err)
	}
	schema, err := structural.NewStructural(&internal)
	if err != nil {
		fatal("%v: %s", err, jsonText(tree))
	}
	value := randomValue(random, tree).(map[string]any)
	given := jsonText(value)
	value = runtime.DeepCopyJSON(normalised(given))
	options := structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	pruned := pruning.PruneWithOptions(value, schema, true, options)
	defaulting.PruneNonNullableNullsWithoutDefaults(value, schema)
	defaulting.Default(value, schema)
	validator, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		fatal("%v", err)
	}
	errors := []string{}
	for _, one := range validation.ValidateCustomResource(nil, value, validator) {
		errors = append(errors, one.Error())
	}
	for _, one := range listtype.ValidateListSetsAndMaps(nil, schema, value) {
		errors = append(errors, one.Error())
	}
	sort.Strings(errors)
	writeRecord(records, jsonText(tree), given, jsonText(value), strings.Join(pruned, "\n"), strings.Join(errors, "\n"))
}

func normalised(text string) map[string]any {
	var value map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		fatal("%v", err)
	}
	return integers(value).(map[string]any)
}

func integers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key := range value {
			value[key] = integers(value[key])
		}
	case []any:
		for i := range value {
			value[i] = integers(value[i])
		}
	case json.Number:
		if integer, err := value.Int64(); err == nil {
			return integer
		}
		float, _ := value.Float64()
		return float
	}
	return value
}

var names = []string{"a", "b", "c", "d"}

func randomObjectSchema(random *rand.Rand, depth int) map[string]any {
	schema := map[string]any{"type": "object"}
	if depth < 3 && random.Intn(4) == 0 {
		schema["additionalProperties"] = randomSchema(random, depth-1)
	} else {
		properties := map[string]any{}
		for _, name := range names[:1+random.Intn(3)] {
			properties[name] = randomSchema(random, depth-1)
		}
		schema["properties"] = properties
		if random.Intn(3) == 0 {
			schema["required"] = []any{names[random.Intn(3)]}
		}
	}
	maybe(random, schema, "maxProperties", random.Intn(3))
	maybe(random, schema, "minProperties", random.Intn(3))
	if random.Intn(6) == 0 {
		schema["x-kubernetes-preserve-unknown-fields"] = true
	}
	if random.Intn(6) == 0 {
		word := []string{"anyOf", "oneOf", "allOf"}[random.Intn(3)]
		schema[word] = []any{
			map[string]any{"required": []any{names[random.Intn(3)]}},
			map[string]any{"required": []any{names[random.Intn(3)]}},
		}
	}
	return schema
}

func maybe(random *rand.Rand, schema map[string]any, key string, value any) {
	if random.Intn(7) == 0 {
		schema[key] = value
	}
}

func randomSchema(random *rand.Rand, depth int) map[string]any {
	choices := 6
	if depth > 0 {
		choices = 9
	}
	schema := map[string]any{}
	switch random.Intn(choices) {
	case 0, 1:
		schema["type"] = "string"
		maybe(random, schema, "maxLength", random.Intn(3))
		maybe(random, schema, "minLength", random.Intn(3))
		maybe(random, schema, "pattern", []string{"^a+$", `^\d$`, "b", "^[^a]"}[random.Intn(4)])
		maybe(random, schema, "enum", []any{"a", "b"})
		maybe(random, schema, "format", []string{"ipv4", "date-time", "uuid", "byte", "nonsense", "duration"}[random.Intn(6)])
		maybe(random, schema, "default", "a")
		maybe(random, schema, "not", map[string]any{"enum": []any{"b"}})
	case 2:
		schema["type"] = "integer"
		numberWords(random, schema)
		maybe(random, schema, "format", []string{"int32", "int64"}[random.Intn(2)])
		maybe(random, schema, "default", 1)
	case 3:
		schema["type"] = "number"
		numberWords(random, schema)
		maybe(random, schema, "format", []string{"float", "double"}[random.Intn(2)])
	case 4:
		schema["type"] = "boolean"
	case 5:
		schema["x-kubernetes-int-or-string"] = true
		maybe(random, schema, "default", "a")
	case 6:
		schema["type"] = "array"
		schema["items"] = randomSchema(random, depth-1)
		maybe(random, schema, "maxItems", random.Intn(3))
		maybe(random, schema, "minItems", random.Intn(3))
		maybe(random, schema, "x-kubernetes-list-type", "set")
	default:
		return randomObjectSchema(random, depth-1)
	}
	if random.Intn(5) == 0 {
		schema["nullable"] = true
	}
	return schema
}

func numberWords(random *rand.Rand, schema map[string]any) {
	maybe(random, schema, "maximum", random.Intn(4))
	maybe(random, schema, "minimum", random.Intn(4))
	if _, ok := schema["maximum"]; ok {
		maybe(random, schema, "exclusiveMaximum", true)
	}
	if _, ok := schema["minimum"]; ok {
		maybe(random, schema, "exclusiveMinimum", true)
	}
	maybe(random, schema, "multipleOf", 2)
	maybe(random, schema, "enum", []any{1, 2})
}

// randomValue makes a value that mostly fits the schema.
func randomValue(random *rand.Rand, schema map[string]any) any {
	kind, _ := schema["type"].(string)
	if random.Intn(12) == 0 {
		kind = []string{"string", "integer", "number", "boolean", "array", "object", "null"}[random.Intn(7)]
		if schema["type"] == "object" && schema["properties"] != nil {
			kind = "object"
		}
	}
	switch kind {
	case "string":
		return []string{"a", "b", "aa", "1", "", "é", "10.0.0.1", "1s"}[random.Intn(8)]
	case "integer":
		return []any{0, 1, 2, 3, 4000000000, -1, 2.5}[random.Intn(7)]
	case "number":
		return []any{0, 1, 2.5, 3, -1.25, 1e300}[random.Intn(6)]
	case "boolean":
		return random.Intn(2) == 0
	case "null":
		return nil
	case "array":
		items, _ := schema["items"].(map[string]any)
		list := []any{}
		for range random.Intn(4) {
			list = append(list, randomValue(random, items))
		}
		return list
	case "object":
		return randomObject(random, schema)
	}
	return []any{1, "a", true, 2.5}[random.Intn(4)]
}

func randomObject(random *rand.Rand, schema map[string]any) map[string]any {
	object := map[string]any{}
	properties, _ := schema["properties"].(map[string]any)
	for _, name := range names {
		property, known := properties[name].(map[string]any)
		if !known {
			property, known = schema["additionalProperties"].(map[string]any)
		}
		if random.Intn(3) == 0 || (!known && random.Intn(3) > 0) {
			continue
		}
		object[name] = randomValue(random, property)
	}
	if random.Intn(5) == 0 {
		object[fmt.Sprintf("x%d", random.Intn(2))] = map[string]any{"y": 1}
	}
	return object
}
