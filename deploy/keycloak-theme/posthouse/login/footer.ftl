<#-- Keycloak's page calls this macro at its end; everything else stays Keycloak's. What comes from the realm is checked here again: it becomes style. -->

<#-- Returns the light of a channel of sRGB, from 0 to 1, by its two hexadecimal digits in lower case. FreeMarker has no powers: the polynomial is
     within 0.002 of the curve of sRGB. That is enough: on a ground of a luminance between 0.175 and 0.183, black and white both have the contrast
     of 4.5 that WCAG 2.2 demands. -->
<#function light digits>
    <#local hex = "0123456789abcdef">
    <#local part = (hex?index_of(digits[0]) * 16 + hex?index_of(digits[1])) / 255>
    <#return part * (part * (part * 0.305306011 + 0.682171111) + 0.012522878)>
</#function>

<#macro content>
    <#local color = (realm.attributes["posthouse.color"])!"">
    <#local logo = (realm.attributes["posthouse.logo"])!"">
    <#if color?matches("#[0-9A-Fa-f]{6}")>
        <#local color = color?lower_case>
        <#local luminance = 0.2126 * light(color[1..2]) + 0.7152 * light(color[3..4]) + 0.0722 * light(color[5..6])>
        <style>
            :root {
                --posthouse-color: ${color};
                --posthouse-on-color: ${(luminance > 0.179)?then("#000000", "#ffffff")};
            }
        </style>
    </#if>
    <#if logo?matches("data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")>
        <style>
            #kc-header-wrapper::before {
                content: "";
                background-image: url("${logo}");
            }
        </style>
    </#if>
    <#-- The messenger makes accounts and replaces passwords; the realm does neither. -->
    <#if (client.baseUrl)?has_content && ["login", "login-username", "login-password"]?seq_contains(pageId!"")>
        <p class="posthouse-back">
            ${msg("posthouseHelp")} <a href="${client.baseUrl}">${msg("posthouseBack", (realm.displayName)!"")}</a>
        </p>
    </#if>
</#macro>
