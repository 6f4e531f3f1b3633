-- Display names are stored composed, and their search keys without case and in NFKC. A key had the lower case of its name, from
-- which it differs in the letters below.

UPDATE users SET display_name = normalize(display_name, NFC) WHERE display_name IS NOT NFC NORMALIZED;
UPDATE users SET display_name_key = replace(replace(normalize(display_name_key, NFKC), 'ß', 'ss'), 'ς', 'σ')
WHERE display_name_key IS NOT NFKC NORMALIZED OR display_name_key LIKE '%ß%' OR display_name_key LIKE '%ς%';
